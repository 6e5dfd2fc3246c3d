// The bytes of segments: rows of codes, scales and numbers. No database here.

import { checksum } from "./checksum.ts";
import type { Bytes } from "./download.ts";

/** `data`: codes (count x dim int8), scales (count float32), numbers (count uint32). `sum`: its checksum. */
export interface Segment {
  data: ArrayBuffer;
  sum: string;
}

/** Rows gathered into one segment. */
export class Builder {
  count = 0;
  #codes: Uint8Array[] = [];
  #scales: Uint8Array[] = [];
  #numbers: Uint32Array[] = [];

  constructor(private readonly dim: number) {}

  /** Rows `start` to `end` of a shard. */
  add(shard: Bytes, numbers: Uint32Array, start: number, end: number): void {
    const split = numbers.length * this.dim;
    this.#codes.push(shard.subarray(start * this.dim, end * this.dim));
    this.#scales.push(shard.subarray(split + 4 * start, split + 4 * end));
    this.#numbers.push(numbers.subarray(start, end));
    this.count += end - start;
  }

  segment(): Segment {
    const data = new Uint8Array(this.count * (this.dim + 8));
    let at = 0;
    for (const part of [...this.#codes, ...this.#scales, ...this.#numbers]) {
      data.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
      at += part.byteLength;
    }
    return { data: data.buffer, sum: checksum(data) };
  }
}

/** A segment as it was written, or undefined. */
export function take(
  found: Segment | undefined,
  count: number,
  dim: number,
): { shard: Bytes; numbers: Uint32Array } | undefined {
  if (!(found?.data instanceof ArrayBuffer) || found.data.byteLength !== count * (dim + 8)) return undefined;
  const data = new Uint8Array(found.data);
  if (checksum(data) !== found.sum) return undefined;
  const split = count * (dim + 4);
  return { shard: data.subarray(0, split), numbers: new Uint32Array(found.data.slice(split)) };
}

/** Some rows of a shard of `of` rows, as a shard; the shard itself where that is all of it. */
export function rowsOf(shard: Bytes, of: number, first: number, count: number): Bytes {
  if (count === of) return shard;
  const size = shard.length / of - 4;
  const found = new Uint8Array(count * (size + 4));
  found.set(shard.subarray(first * size, (first + count) * size));
  found.set(shard.subarray(of * size + 4 * first, of * size + 4 * (first + count)), count * size);
  return found;
}

/** Rows that are never found. */
export function nothing(count: number, dim: number): Bytes {
  const shard = new Uint8Array(count * (dim + 4));
  shard.set(new Uint8Array(new Float32Array(count).fill(NaN).buffer), count * dim);
  return shard;
}

export function join(lists: Uint32Array[]): Uint32Array {
  const all = new Uint32Array(lists.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of lists) {
    all.set(list, at);
    at += list.length;
  }
  return all;
}
