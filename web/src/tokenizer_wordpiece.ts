// WordPiece with BERT's text handling: the ids of `tokenizers`, for every character. See DESIGN.md, "Token ids".

import { CLASSES } from "./bert_classes.ts";
import { AddedTokens } from "./tokenizer_added.ts";
import { hashNext, type Vocabulary } from "./tokenizer_vocabulary.ts";

const WORD = 0;
const DROP = 1;
// 2 is a space: it ends a word and is nothing itself.
const PUNCTUATION = 3;
const IDEOGRAPH = 4;

/** Words kept with their ids. Text repeats its words; more than these are not worth their memory. */
const CACHED_WORDS = 16_384;
const CACHED_UNITS = 32;

/** A character after normalisation: what it is and how it is written. */
interface Piece {
  kind: number;
  text: string;
}

/** What a WordPiece file says beside its tokens. */
interface WordPieceHeader {
  unknown: number;
  /** What a token begins with that goes on with a word. */
  prefix: string;
  /** A longer word, in characters, is unknown. */
  longest_word: number;
}

export class WordPiece {
  readonly #vocabulary: Vocabulary;
  readonly #added: AddedTokens;
  readonly #unknown: number;
  readonly #prefix: Uint16Array;
  readonly #longestWord: number;
  readonly #classes = readClasses();
  readonly #pieces = new Map<number, Piece[]>();
  readonly #words = new Map<string, number[]>();
  /** The rest of a word, room for a prefix in front; and the hashes of its beginnings. */
  #units = new Uint16Array(256);
  #hashes = new Int32Array(257);

  constructor(vocabulary: Vocabulary) {
    const header = vocabulary.header as unknown as WordPieceHeader;
    this.#vocabulary = vocabulary;
    this.#added = new AddedTokens(vocabulary);
    this.#unknown = header.unknown;
    this.#prefix = Uint16Array.from({ length: header.prefix.length }, (_, i) => header.prefix.charCodeAt(i));
    this.#longestWord = header.longest_word;
  }

  /** See `Tokenizer.encode`. */
  encode(text: string, ids: number[], limit = Infinity): void {
    const stop = ids.length + limit;
    for (let done = 0; done < text.length;) {
      const found = this.#added.find(text, done);
      const end = found ? this.#added.start : text.length;
      if (done < end) this.#encodePlain(text.slice(done, end), ids, stop);
      if (ids.length >= stop) return;
      if (found) ids.push(this.#added.id);
      done = found ? this.#added.end : end;
    }
  }

  #encodePlain(text: string, ids: number[], stop: number): void {
    const classes = this.#classes;
    let word = "";
    let start = 0; // of the run of ASCII word characters that ends at i and is not yet in `word`
    let i = 0;
    const flush = (): void => {
      if (word !== "") this.#encodeWord(word, ids);
      word = "";
    };
    for (; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit < 128 && classes[unit] === WORD) continue;
      if (ids.length >= stop) return;
      if (start < i) word += text.slice(start, i).toLowerCase();
      start = i + 1;
      if (unit < 128) {
        const kind = classes[unit];
        if (kind === DROP) continue;
        flush();
        if (kind === PUNCTUATION) this.#encodeWord(text[i]!, ids);
        continue;
      }
      const code = text.codePointAt(i)!;
      if (code > 0xffff) start = ++i + 1;
      for (const piece of this.#normalise(code)) {
        if (piece.kind === WORD) word += piece.text;
        else flush();
        if (piece.kind === PUNCTUATION || piece.kind === IDEOGRAPH) this.#encodeWord(piece.text, ids);
      }
    }
    if (start < i) word += text.slice(start, i).toLowerCase();
    flush();
  }

  /** One character: decomposed, without accents and controls, in lower case. */
  #normalise(code: number): Piece[] {
    const known = this.#pieces.get(code);
    if (known) return known;
    const kind = this.#classes[code]!;
    const pieces: Piece[] = [];
    if (kind !== DROP) {
      for (const part of String.fromCodePoint(code).normalize("NFD")) {
        // Ideographs are set apart before they are decomposed; the rest is judged after it.
        const partKind = kind === IDEOGRAPH ? IDEOGRAPH : this.#classes[part.codePointAt(0)!]!;
        // By character, so that a final sigma stays a sigma.
        if (partKind !== DROP)
          pieces.push({ kind: partKind === IDEOGRAPH ? kind : partKind, text: part.toLowerCase() });
      }
    }
    this.#pieces.set(code, pieces);
    return pieces;
  }

  #encodeWord(word: string, ids: number[]): void {
    let found = this.#words.get(word);
    if (!found) {
      found = this.#wordPieces(word);
      if (this.#words.size >= CACHED_WORDS) this.#words.clear();
      if (word.length <= CACHED_UNITS) this.#words.set(word, found);
    }
    for (const id of found) ids.push(id);
  }

  /** The longest token that the rest of the word begins with, again and again. */
  #wordPieces(word: string): number[] {
    if (word.length > this.#longestWord && [...word].length > this.#longestWord) return [this.#unknown];
    const prefix = this.#prefix;
    const size = prefix.length + word.length;
    if (this.#units.length < size) {
      this.#units = new Uint16Array(size);
      this.#hashes = new Int32Array(size + 1);
    }
    const units = this.#units;
    const hashes = this.#hashes;
    for (let i = 0; i < word.length; i++) units[prefix.length + i] = word.charCodeAt(i);
    const ids: number[] = [];
    for (let start = prefix.length; start < size;) {
      // What lies before `start` is done: the prefix goes there.
      let from = start;
      if (start > prefix.length) units.set(prefix, (from -= prefix.length));
      let end = Math.min(size, from + this.#vocabulary.longest);
      hashes[from] = 0;
      for (let i = from; i < end; i++) hashes[i + 1] = hashNext(hashes[i]!, units[i]!);
      let id = -1;
      for (; end > start; end--) {
        id = this.#vocabulary.find(units, from, end, hashes[end]!);
        if (id >= 0) break;
      }
      if (id < 0) return [this.#unknown];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

/** The class of each character, by its code. */
function readClasses(): Uint8Array {
  const classes = new Uint8Array(0x110000);
  let at = 0;
  for (const run of CLASSES.split(",")) {
    const [gap, count, kind] = run.split(" ") as [string, string, string];
    at += parseInt(gap, 36);
    const end = at + parseInt(count, 36);
    classes.fill(Number(kind), at, end);
    at = end;
  }
  return classes;
}
