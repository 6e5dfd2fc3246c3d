// Added tokens: found in a text as it is written, before normalisation. At each place the longest one wins.

import { hashNext, mix, type Vocabulary } from "./tokenizer_vocabulary.ts";

/** log2 of the bits of the filter: Gemma's 6,414 added tokens have few beginnings each of its own. */
const FILTER_BITS = 17;

export class AddedTokens {
  readonly #vocabulary: Vocabulary;
  /** One bit per id. */
  readonly #added: Uint8Array;
  /** One bit per hash of a beginning of an added token; a bit too many costs a look and nothing else. */
  readonly #beginnings = new Uint8Array(2 ** (FILTER_BITS - 3));
  /** One bit per unit that an added token begins with. */
  readonly #firsts = new Uint8Array(0x10000 / 8);
  readonly #units: Uint16Array;
  /** What `find` found. */
  id = -1;
  start = 0;
  end = 0;

  constructor(vocabulary: Vocabulary) {
    const { header, starts, units } = vocabulary;
    this.#vocabulary = vocabulary;
    this.#units = new Uint16Array(vocabulary.longest);
    this.#added = idSet(header.count, header.added);
    const [firsts, beginnings] = [this.#firsts, this.#beginnings];
    for (const [first, last] of header.added) {
      for (let id = first; id <= last; id++) {
        const start = starts[id]!;
        const end = starts[id + 1]!;
        set(firsts, units[start]!);
        for (let i = start, hash = 0; i < end; i++) {
          hash = hashNext(hash, units[i]!);
          set(beginnings, mix(hash) >>> (32 - FILTER_BITS));
        }
      }
    }
  }

  /** Look for the first added token of `text` from `start` on; true if there is one, and `id`, `start` and `end` say which. */
  find(text: string, start: number): boolean {
    const units = this.#units;
    for (let i = start; i < text.length; i++) {
      if (!has(this.#firsts, text.charCodeAt(i))) continue;
      this.id = -1;
      let hash = 0;
      const limit = Math.min(units.length, text.length - i);
      for (let length = 1; length <= limit; length++) {
        const unit = text.charCodeAt(i + length - 1);
        units[length - 1] = unit;
        hash = hashNext(hash, unit);
        if (!has(this.#beginnings, mix(hash) >>> (32 - FILTER_BITS))) break;
        const id = this.#vocabulary.find(units, 0, length, hash);
        if (id < 0 || !has(this.#added, id)) continue;
        this.id = id;
        this.start = i;
        this.end = i + length;
      }
      if (this.id >= 0) return true;
    }
    return false;
  }
}

/** One bit for each id, set for those in `runs`: [first, last] of each. */
export function idSet(count: number, runs: [number, number][]): Uint8Array {
  const bits = new Uint8Array((count >> 3) + 1);
  for (const [first, last] of runs) for (let id = first; id <= last; id++) set(bits, id);
  return bits;
}

export function set(bits: Uint8Array, at: number): void {
  bits[at >>> 3]! |= 1 << (at & 7);
}

export function has(bits: Uint8Array, at: number): boolean {
  return (bits[at >>> 3]! & (1 << (at & 7))) !== 0;
}
