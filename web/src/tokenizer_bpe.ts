// Byte-pair encoding whose merges follow from the vocabulary: the ids of `tokenizers`. See DESIGN.md, "Token ids".
//
// Two neighbours merge if their texts together are a token. Of all such pairs the one that merges first is that with the
// lowest id of the result, those tokens before all others that are `first`; then the one with the longer left part, the
// longer right part; then the first in the text.

import { AddedTokens, has, idSet } from "./tokenizer_added.ts";
import { Heap } from "./tokenizer_heap.ts";
import { hashNext, hashPowers, pairBit, type Vocabulary } from "./tokenizer_vocabulary.ts";

/** Pieces kept with their ids. Text repeats its words; more than these are not worth their memory. */
const CACHED_PIECES = 16_384;
const CACHED_UNITS = 32;

/** Up to so many units the best pair is searched among all, which is quicker than a heap. */
const SHORT = 48;

const UNKNOWN = -2;

/** The key of two neighbours that do not merge. */
const NONE = Infinity;

/** What a BPE file says beside its tokens. */
interface BpeHeader {
  /** The unit that a space becomes. */
  space: number;
  /** The id of byte 0; those of 1 to 255 follow. A character that is no token is written in bytes. */
  bytes: number;
  /** Ids of tokens that merge before all others, whatever their ids: [first, last] of each run. */
  first: [number, number][];
}

export class Bpe {
  readonly #vocabulary: Vocabulary;
  readonly #added: AddedTokens;
  readonly #space: number;
  readonly #bytes: number;
  readonly #first: Uint8Array;
  /** The id of each unit that is a token of its own, else -1; `UNKNOWN` until it was looked for. */
  readonly #single = new Int32Array(0x10000).fill(UNKNOWN);
  readonly #powers: Int32Array;
  readonly #known = new Map<string, number[]>();
  readonly #short = new Piece(SHORT);

  constructor(vocabulary: Vocabulary) {
    const { space, bytes, first } = vocabulary.header as unknown as BpeHeader;
    this.#vocabulary = vocabulary;
    this.#added = new AddedTokens(vocabulary);
    this.#space = space;
    this.#bytes = bytes;
    this.#first = idSet(vocabulary.header.count, first);
    this.#powers = hashPowers(vocabulary.longest);
  }

  /** See `Tokenizer.encode`. */
  encode(text: string, ids: number[], limit = Infinity): void {
    const stop = ids.length + limit;
    for (let done = 0; done < text.length;) {
      const found = this.#added.find(text, done);
      const end = found ? this.#added.start : text.length;
      if (done < end) this.#encodePlain(text, done, end, ids, stop);
      if (ids.length >= stop) return;
      if (found) ids.push(this.#added.id);
      done = found ? this.#added.end : end;
    }
  }

  /** Text without added tokens, in pieces that no merge can leave. */
  #encodePlain(text: string, start: number, end: number, ids: number[], stop: number): void {
    let from = start;
    let before = this.#unit(text, start);
    const { pairs } = this.#vocabulary;
    for (let i = start + 1; i < end; i++) {
      const unit = this.#unit(text, i);
      // Where no token has the two side by side, no merge can cross. The second half of a character is no beginning.
      if (!has(pairs, pairBit(before, unit)) && (unit & 0xfc00) !== 0xdc00) {
        this.#encodePiece(text, from, i, ids);
        if (ids.length >= stop) return;
        from = i;
      }
      before = unit;
    }
    this.#encodePiece(text, from, end, ids);
  }

  #encodePiece(text: string, start: number, end: number, ids: number[]): void {
    const length = end - start;
    if (length > CACHED_UNITS) {
      this.#merge(text, start, end, ids);
      return;
    }
    const key = text.slice(start, end);
    let found = this.#known.get(key);
    if (!found) {
      found = [];
      this.#merge(text, start, end, found);
      if (this.#known.size >= CACHED_PIECES) this.#known.clear();
      this.#known.set(key, found);
    }
    for (const id of found) ids.push(id);
  }

  #merge(text: string, start: number, end: number, ids: number[]): void {
    const size = end - start;
    const piece = size <= SHORT ? this.#short : new Piece(size);
    this.#read(text, start, size, piece);
    if (size <= SHORT) this.#mergeShort(piece, size);
    else this.#mergeLong(piece, size);
    for (let i = 0; i < size; i = piece.ends[i]!) {
      const id = piece.ids[i]!;
      if (id >= 0) ids.push(id);
      else for (const byte of utf8(text.slice(start + i, start + piece.ends[i]!))) ids.push(this.#bytes + byte);
    }
  }

  /** The characters of the piece, each a symbol. */
  #read(text: string, start: number, size: number, piece: Piece): void {
    const { units, hashes, ends, previous, ids } = piece;
    for (let i = 0; i < size; i++) {
      units[i] = this.#unit(text, start + i);
      hashes[i + 1] = hashNext(hashes[i]!, units[i]!);
    }
    let before = -1;
    for (let i = 0; i < size;) {
      const pair = i + 1 < size && (units[i]! & 0xfc00) === 0xd800 && (units[i + 1]! & 0xfc00) === 0xdc00;
      ends[i] = pair ? i + 2 : i + 1;
      let id = pair ? UNKNOWN : this.#single[units[i]!]!;
      if (id === UNKNOWN) id = this.#find(piece, i, pair ? i + 2 : i + 1);
      if (!pair) this.#single[units[i]!] = id;
      ids[i] = id;
      previous[i] = before;
      before = i;
      i = ends[i]!;
    }
    for (let i = 0; i < size; i = ends[i]!) this.#judge(piece, size, i);
  }

  /** Note whether and when the symbol at `i` merges with the next one. */
  #judge(piece: Piece, size: number, i: number): void {
    const { ends, ids, keys, merged } = piece;
    const next = ends[i]!;
    keys[i] = NONE;
    if (next >= size || ids[i]! < 0 || ids[next]! < 0) return;
    const id = this.#find(piece, i, ends[next]!);
    if (id < 0) return;
    merged[i] = id;
    const rank = has(this.#first, id) ? 0 : id + 1;
    // 19 bits, 8, 8 and 18: exact in a float64.
    keys[i] = (rank * 65536 + (255 - (next - i)) * 256 + (255 - (ends[next]! - next))) * 262144 + id;
  }

  #find(piece: Piece, start: number, end: number): number {
    const length = end - start;
    if (length > this.#vocabulary.longest) return -1;
    const { units, hashes } = piece;
    const hash = (hashes[end]! - Math.imul(hashes[start]!, this.#powers[length]!)) | 0;
    return this.#vocabulary.find(units, start, end, hash);
  }

  /** Merge the symbol at `i` with the next one. */
  #join(piece: Piece, size: number, i: number): void {
    const { ends, previous, ids, keys, merged } = piece;
    const next = ends[i]!;
    ids[i] = merged[i]!;
    ends[i] = ends[next]!;
    keys[next] = NONE;
    if (ends[i]! < size) previous[ends[i]!] = i;
    this.#judge(piece, size, i);
    if (previous[i]! >= 0) this.#judge(piece, size, previous[i]!);
  }

  #mergeShort(piece: Piece, size: number): void {
    const { ends, keys } = piece;
    for (;;) {
      let best = NONE;
      let place = -1;
      for (let i = 0; i < size; i = ends[i]!) {
        if (keys[i]! < best) {
          best = keys[i]!;
          place = i;
        }
      }
      if (place < 0) return;
      this.#join(piece, size, place);
    }
  }

  #mergeLong(piece: Piece, size: number): void {
    const { ends, previous, keys } = piece;
    const heap = new Heap(size);
    for (let i = 0; i < size; i = ends[i]!) if (keys[i]! < NONE) heap.push(keys[i]!, i);
    while (heap.pop()) {
      const place = heap.place;
      if (keys[place] !== heap.key) continue; // one of the two has merged with another since
      this.#join(piece, size, place);
      if (keys[place]! < NONE) heap.push(keys[place]!, place);
      const before = previous[place]!;
      if (before >= 0 && keys[before]! < NONE) heap.push(keys[before]!, before);
    }
  }

  #unit(text: string, at: number): number {
    const unit = text.charCodeAt(at);
    return unit === 32 ? this.#space : unit;
  }
}

/** A piece of text while it is merged. All by the place of a symbol's first unit. */
class Piece {
  readonly units: Uint16Array;
  /** Hashes of the beginnings of the piece: hashes[i] is that of i units. */
  readonly hashes: Int32Array;
  /** Where the symbol ends, and the next one begins. */
  readonly ends: Int32Array;
  readonly previous: Int32Array;
  /** The token that the symbol is, -1 for a character that is none. */
  readonly ids: Int32Array;
  /** When the symbol merges with the next one (lowest first), and what it becomes. */
  readonly keys: Float64Array;
  readonly merged: Int32Array;

  constructor(size: number) {
    this.units = new Uint16Array(size);
    this.hashes = new Int32Array(size + 1);
    this.ends = new Int32Array(size);
    this.previous = new Int32Array(size);
    this.ids = new Int32Array(size);
    this.keys = new Float64Array(size);
    this.merged = new Int32Array(size);
  }
}

const utf8Encoder = new TextEncoder();

function utf8(character: string): Uint8Array {
  return utf8Encoder.encode(character);
}
