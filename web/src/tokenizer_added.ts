// Added tokens: found in a text as it is written, before normalisation. At each place the longest one wins.

import { beginningBit, hashNext, type Vocabulary } from "./tokenizer_vocabulary.ts";

export class AddedTokens {
  readonly #vocabulary: Vocabulary;
  /** One bit per id. */
  readonly #added: Uint8Array;
  readonly #units: Uint16Array;
  /** What `find` found. */
  id = -1;
  start = 0;
  end = 0;

  constructor(vocabulary: Vocabulary) {
    const { header, longest } = vocabulary;
    this.#vocabulary = vocabulary;
    this.#units = new Uint16Array(longest);
    this.#added = idSet(header.count, header.added);
  }

  /** Look for the first added token of `text` from `start` on; true if there is one, and `id`, `start` and `end` say which. */
  find(text: string, start: number): boolean {
    const units = this.#units;
    const { firsts, beginnings } = this.#vocabulary;
    for (let i = start; i < text.length; i++) {
      if (!has(firsts, text.charCodeAt(i))) continue;
      this.id = -1;
      let hash = 0;
      const limit = Math.min(units.length, text.length - i);
      for (let length = 1; length <= limit; length++) {
        const unit = text.charCodeAt(i + length - 1);
        units[length - 1] = unit;
        hash = hashNext(hash, unit);
        if (!has(beginnings, beginningBit(hash))) break;
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
