// WordPiece with BERT's text handling: the ids of `tokenizers`, for every character. See DESIGN.md, "Token ids".

import { CLASSES } from "./bert_classes.ts";
import { InsituError } from "./errors.ts";

const WORD = 0;
const DROP = 1;
// 2 is a space: it ends a word and is nothing itself.
const PUNCTUATION = 3;
const IDEOGRAPH = 4;

/** Words kept with their ids. Text repeats its words; more than these are not worth their memory. */
const CACHED_WORDS = 50_000;

interface TokenizerFile {
  added_tokens: { id: number; content: string; normalized: boolean }[];
  normalizer: {
    type: string;
    clean_text: boolean;
    handle_chinese_chars: boolean;
    strip_accents: boolean | null;
    lowercase: boolean;
  } | null;
  pre_tokenizer: { type: string } | null;
  model: {
    type: string;
    vocab: Record<string, number>;
    unk_token: string;
    continuing_subword_prefix: string;
    max_input_chars_per_word: number;
  };
}

/** A character after normalisation: what it is and how it is written. */
interface Piece {
  kind: number;
  text: string;
}

export class Tokenizer {
  #classes = readClasses();
  #pieces = new Map<number, Piece[]>();
  #heads = new Map<string, number>();
  #tails = new Map<string, number>();
  #words = new Map<string, number[]>();
  #unknown: number;
  #longest = 0;
  #longestWord: number;
  #added: Map<string, number>;
  #addedPattern: RegExp | undefined;

  /** `json`: a tokenizer.json. Truncation, padding and special tokens in it are not used. Code: `model-corrupt`. */
  constructor(json: string) {
    const file = parse(json);
    const { vocab, continuing_subword_prefix: prefix } = file.model;
    for (const token in vocab) {
      const tail = token.startsWith(prefix);
      const text = tail ? token.slice(prefix.length) : token;
      (tail ? this.#tails : this.#heads).set(text, vocab[token]!);
      if (text.length > this.#longest) this.#longest = text.length;
    }
    this.#unknown = vocab[file.model.unk_token]!;
    this.#longestWord = file.model.max_input_chars_per_word;
    this.#added = new Map(file.added_tokens.map(({ content, id }) => [content, id]));
    if (this.#added.size > 0) {
      const escaped = [...this.#added.keys()].map((content) => content.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      this.#addedPattern = new RegExp(`(${escaped.sort((a, b) => b.length - a.length).join("|")})`, "u");
    }
  }

  /** Append the ids of `text` to `ids`. Special tokens are not added, but found where the text spells them. */
  encode(text: string, ids: number[]): void {
    // The pattern has one group, so every second part is an added token.
    const parts = this.#addedPattern ? text.split(this.#addedPattern) : [text];
    parts.forEach((part, i) => {
      if (i % 2 === 1) ids.push(this.#added.get(part)!);
      else this.#encodePlain(part, ids);
    });
  }

  #encodePlain(text: string, ids: number[]): void {
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
      this.#words.set(word, found);
    }
    for (const id of found) ids.push(id);
  }

  /** The longest token that the rest of the word begins with, again and again. */
  #wordPieces(word: string): number[] {
    if (word.length > this.#longestWord && [...word].length > this.#longestWord) return [this.#unknown];
    const ids: number[] = [];
    for (let start = 0; start < word.length;) {
      const tokens = start === 0 ? this.#heads : this.#tails;
      let end = Math.min(word.length, start + this.#longest);
      let id: number | undefined;
      for (; end > start; end--) {
        id = tokens.get(word.slice(start, end));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.#unknown];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}

function parse(json: string): TokenizerFile {
  let file: TokenizerFile;
  try {
    file = JSON.parse(json) as TokenizerFile;
  } catch (error) {
    throw new InsituError(
      "model-corrupt",
      `tokenizer.json cannot be read (${(error as Error).message}). Export again.`,
    );
  }
  const { normalizer, pre_tokenizer, model } = file;
  const known =
    model?.type === "WordPiece" &&
    pre_tokenizer?.type === "BertPreTokenizer" &&
    normalizer?.type === "BertNormalizer" &&
    normalizer.clean_text &&
    normalizer.handle_chinese_chars &&
    normalizer.strip_accents !== false &&
    normalizer.lowercase &&
    file.added_tokens.every((token) => !token.normalized);
  if (!known) {
    throw new InsituError(
      "model-corrupt",
      `tokenizer.json is a ${model?.type} tokenizer that the page does not know; it knows uncased BERT's.`,
    );
  }
  return file;
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
