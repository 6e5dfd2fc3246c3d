// The compact vocabulary file (py/insitu/model/vocabulary.py): all tokens in one buffer, found by hash. DESIGN.md, "Token ids".

import type { Bytes } from "./download.ts";
import { InsituError } from "./errors.ts";

const FORMAT = "insitu-vocabulary";
const VERSION = 1;

/** What the file says beside the tokens. Numbers that say more than their name are explained where they are used. */
export interface Header {
  format: string;
  version: number;
  kind: string;
  /** Tokens, in order of id. */
  count: number;
  /** Ids of the tokens that are found in a text before anything else: [first, last] of each run. */
  added: [number, number][];
  [option: string]: unknown;
}

/** A multiplier whose powers run through all odd residues of its kind: the hash of a text is a polynomial in it. */
const FACTOR = 0x01000193;

/** The hash of a text that goes on with `unit`. Start with 0. */
export function hashNext(hash: number, unit: number): number {
  return (Math.imul(hash, FACTOR) + unit + 1) | 0;
}

/** Powers of the factor: the hash of units[a..b) is `h[b] - h[a] * power[b - a]`, h being the hashes of the prefixes. */
export function hashPowers(count: number): Int32Array {
  const powers = new Int32Array(count + 1).fill(1);
  for (let i = 1; i <= count; i++) powers[i] = Math.imul(powers[i - 1]!, FACTOR);
  return powers;
}

/** Spread over all bits: those of a polynomial with an odd factor are worth the less the lower they are. */
export function mix(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  return hash ^ (hash >>> 15);
}

export class Vocabulary {
  readonly header: Header;
  /** UTF-16 units of all tokens, one after another; token i begins at starts[i]. An id without a token has none. */
  readonly units: Uint16Array;
  readonly starts: Uint32Array;
  /** Units of the longest token. */
  readonly longest: number;
  /** Open addressing: id + 1 in the low bits, bits of the hash above, 0 where nothing is. */
  readonly #slots: Int32Array;
  readonly #idMask: number;

  /** `lengths`: of each token, in units. `high`, `low`: the bytes of all units. */
  private constructor(header: Header, lengths: Uint8Array, high: Uint8Array, low: Uint8Array) {
    const { count } = header;
    const units = new Uint16Array(low.length);
    const starts = new Uint32Array(count + 1);
    const idMask = 2 ** (32 - Math.clz32(count)) - 1;
    // Between a quarter and half of the slots are used.
    const slots = new Int32Array(2 ** (33 - Math.clz32(count - 1)));
    const last = slots.length - 1;
    const hashes = new Int32Array(count);
    let longest = 0;
    for (let id = 0, start = 0; id < count; id++) {
      const length = lengths[id]!;
      const end = start + length;
      starts[id + 1] = end;
      if (length > longest) longest = length;
      // Without calls of `hashNext` and `mix`: much of this runs before the compiler gets to it, where a call costs most.
      let hash = 0;
      for (; start < end; start++) {
        const unit = (high[start]! << 8) | low[start]!;
        units[start] = unit;
        hash = (Math.imul(hash, FACTOR) + unit + 1) | 0;
      }
      hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
      hashes[id] = hash ^ (hash >>> 15);
    }
    // By itself: the processor waits for memory in several places at once.
    for (let id = 0; id < count; id++) {
      if (lengths[id] === 0) continue;
      const hash = hashes[id]!;
      let slot = hash & last;
      while (slots[slot] !== 0) slot = (slot + 1) & last;
      slots[slot] = (hash & ~idMask) | (id + 1);
    }
    if (starts[count] !== units.length) throw new Error("it is cut");
    this.header = header;
    this.units = units;
    this.starts = starts;
    this.longest = longest;
    this.#slots = slots;
    this.#idMask = idMask;
  }

  /** Code: `model-corrupt`. */
  static async read(bytes: Uint8Array<ArrayBuffer>): Promise<Vocabulary> {
    try {
      const raw = await unzip(bytes);
      const line = raw.indexOf(10);
      const header = JSON.parse(new TextDecoder().decode(raw.subarray(0, line))) as Header;
      if (header.format !== FORMAT || header.version !== VERSION) {
        throw new Error(`it is ${header.format} version ${header.version}, this release reads ${FORMAT} ${VERSION}`);
      }
      const [lengths, high] = [line + 1, line + 1 + header.count];
      const low = high + (raw.length - high) / 2;
      return new Vocabulary(header, raw.subarray(lengths, high), raw.subarray(high, low), raw.subarray(low));
    } catch (error) {
      throw new InsituError(
        "model-corrupt",
        `The vocabulary cannot be read (${(error as Error).message}). Export the model again.`,
      );
    }
  }

  /** The id of the token units[start..end), whose hash is `hash`; -1 if there is none. */
  find(units: Uint16Array, start: number, end: number, hash: number): number {
    hash = mix(hash);
    const slots = this.#slots;
    const last = slots.length - 1;
    const idMask = this.#idMask;
    for (let slot = hash & last; ; slot = (slot + 1) & last) {
      const entry = slots[slot]!;
      if (entry === 0) return -1;
      if (((entry ^ hash) & ~idMask) !== 0) continue;
      const id = (entry & idMask) - 1;
      const from = this.starts[id]!;
      if (this.starts[id + 1]! - from !== end - start) continue;
      let i = start;
      while (i < end && units[i] === this.units[from + i - start]) i++;
      if (i === end) return id;
    }
  }

  /** The id of a token; -1 if there is none. */
  id(token: string): number {
    const units = Uint16Array.from({ length: token.length }, (_, i) => token.charCodeAt(i));
    return this.find(units, 0, units.length, units.reduce(hashNext, 0));
  }

  /** The text of a token. */
  token(id: number): string {
    return String.fromCharCode(...this.units.subarray(this.starts[id], this.starts[id + 1]));
  }
}

/** A Blob's stream would go through another process. */
async function unzip(bytes: Bytes): Promise<Bytes> {
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  written.catch(() => undefined); // the reader fails with it
  return new Uint8Array(await new Response(readable).arrayBuffer());
}
