// The compact vocabulary file (py/insitu/model/vocabulary.py): all tokens in one buffer, found by hash. DESIGN.md, "Token ids".

import { BEGINNING_BITS, FACTOR, PAIR, PAIR_BITS, SPREAD } from "../kernel/hash.ts";
import { fetchModule, type Bytes } from "./download.ts";
import { InsituError } from "./errors.ts";
import type { Place } from "./place.ts";

const FORMAT = "insitu-vocabulary";
const VERSION = 2;

/** What the file says beside the tokens. Numbers that say more than their name are explained where they are used. */
export interface Header {
  format: string;
  version: number;
  kind: string;
  /** Tokens, in order of id. */
  count: number;
  /** Bytes of the second part of the file. */
  zipped: number;
  /** Ids of the tokens that are found in a text before anything else: [first, last] of each run. */
  added: [number, number][];
  [option: string]: unknown;
}

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
  hash = Math.imul(hash ^ (hash >>> 16), SPREAD);
  return hash ^ (hash >>> 15);
}

/** What the kernel (web/kernel/vocabulary.ts) offers; all arguments are counts and addresses. */
interface Kernel {
  heapBase(): number;
  read(...places: number[]): number;
  join(...places: number[]): number;
  index(...places: number[]): void;
  begin(...places: number[]): void;
}

export class Vocabulary {
  readonly header: Header;
  /** UTF-16 units of each token; 0 where an id has none. */
  readonly lengths: Uint8Array;
  /** Units of the longest token. */
  readonly longest: number;
  /** One bit per hash of two units that stand side by side in some token: `pairBit`. */
  readonly pairs: Uint8Array;
  /** One bit per unit that an added token begins with. */
  readonly firsts: Uint8Array;
  /** One bit per hash of a beginning of an added token; a bit too many costs a look and nothing else. */
  readonly beginnings: Uint8Array;
  /** Texts of tokens, one after another: at first those that are not two in a row, the others as they are asked for. */
  #units: Uint16Array;
  #used: number;
  /** Where the text of a token begins in `#units`; ~id of its left part where it is not there yet. */
  readonly #starts: Int32Array;
  readonly #rights: Int32Array;
  /** Open addressing: id + 1 in the low bits, bits of the hash above, 0 where nothing is. */
  readonly #slots: Int32Array;
  readonly #idMask: number;

  /** `tokens` and `joins`: the second and the third part of the file. */
  private constructor(module: WebAssembly.Module, header: Header, tokens: Bytes, joins: Bytes) {
    const { count } = header;
    const texts = (tokens.length - count) / 2;
    // Between a quarter and half of the slots are used.
    const slotCount = 2 ** (33 - Math.clz32(count - 1));
    const idMask = 2 ** (32 - Math.clz32(count)) - 1;
    const memory = new WebAssembly.Memory({ initial: 1 });
    const kernel = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernel;
    let end = kernel.heapBase();
    const place = (bytes: number): number => {
      const start = (end + 15) & ~15;
      end = start + bytes;
      return start;
    };
    const [starts, rights, slots] = [place(4 * count), place(4 * count), place(4 * slotCount)];
    const pairs = place(2 ** (PAIR_BITS - 3));
    const firsts = place(0x10000 / 8);
    const beginnings = place(2 ** (BEGINNING_BITS - 3));
    const lengths = place(tokens.length);
    const [high, low] = [lengths + count, lengths + count + texts];
    const units = place(2 * texts);
    // What is behind is needed no more in the end: texts that are asked for come there.
    const [hashes, edges, powers, pieces] = [place(4 * count), place(4 * count), place(4 * 256), place(joins.length)];
    memory.grow(Math.ceil(end / 65536) - 1);
    const { buffer } = memory;
    new Uint8Array(buffer).set(tokens, lengths);
    new Uint8Array(buffer).set(joins, pieces);
    new Int32Array(buffer).set(hashPowers(255), powers / 4);
    const joined = Math.floor(joins.length / 4.5);
    const read = kernel.read(count, lengths, high, low, units, starts, hashes, edges, pairs);
    const longest = kernel.join(count, joined, pieces, powers, lengths, starts, rights, hashes, edges, pairs);
    if (read !== texts || longest < 0) throw new Error("it is cut");
    kernel.index(count, lengths, hashes, slots, slotCount - 1, idMask);
    for (const [first, last] of header.added) kernel.begin(first, last, lengths, starts, units, firsts, beginnings);
    this.header = header;
    this.lengths = new Uint8Array(buffer, lengths, count);
    this.longest = longest;
    this.pairs = new Uint8Array(buffer, pairs, 2 ** (PAIR_BITS - 3));
    this.firsts = new Uint8Array(buffer, firsts, 0x10000 / 8);
    this.beginnings = new Uint8Array(buffer, beginnings, 2 ** (BEGINNING_BITS - 3));
    this.#units = new Uint16Array(buffer, units);
    this.#used = texts;
    this.#starts = new Int32Array(buffer, starts, count);
    this.#rights = new Int32Array(buffer, rights, count);
    this.#slots = new Int32Array(buffer, slots, slotCount);
    this.#idMask = idMask;
  }

  /** Fetch the kernel. */
  static async kernel(place: Place): Promise<WebAssembly.Module> {
    return fetchModule(place("vocabulary.wasm"));
  }

  /** Code: `model-corrupt`. */
  static async read(bytes: Bytes, kernel: WebAssembly.Module): Promise<Vocabulary> {
    try {
      if (bytes[0] === 0x1f) throw new Error("an earlier release made it");
      const tokens = bytes.indexOf(10) + 1;
      const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, tokens))) as Header;
      if (header.format !== FORMAT || header.version !== VERSION) {
        throw new Error(`it is ${header.format} version ${header.version}, this release reads ${FORMAT} ${VERSION}`);
      }
      const joins = tokens + header.zipped;
      return new Vocabulary(kernel, header, await unzip(bytes.subarray(tokens, joins)), bytes.subarray(joins));
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
      if (this.lengths[id] !== end - start) continue;
      const from = this.#start(id);
      const texts = this.#units;
      let i = start;
      while (i < end && units[i] === texts[from + i - start]) i++;
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
    const start = this.#start(id);
    return String.fromCharCode(...this.#units.subarray(start, start + this.lengths[id]!));
  }

  /** Where the text of a token begins in `#units`, which may be another array after this. */
  #start(id: number): number {
    const start = this.#starts[id]!;
    return start < 0 ? this.#spell(id) : start;
  }

  /** Write the text of a token behind the others. */
  #spell(id: number): number {
    const start = this.#used;
    this.#used += this.lengths[id]!;
    if (this.#used > this.#units.length) {
      const units = new Uint16Array(2 * this.#used);
      units.set(this.#units);
      this.#units = units;
    }
    const parts = [id];
    let end = start;
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
      const known = this.#starts[part]!;
      if (known < 0) {
        parts.push(this.#rights[part]!, ~known);
        continue;
      }
      const texts = this.#units;
      // Few units: a call of `copyWithin` would take longer.
      for (let i = known, stop = known + this.lengths[part]!; i < stop; i++) texts[end++] = texts[i]!;
    }
    return (this.#starts[id] = start);
  }
}

/** The bit of two units in `pairs`. */
export function pairBit(first: number, second: number): number {
  return Math.imul((first << 16) | second, PAIR) >>> (32 - PAIR_BITS);
}

/** The bit of a text's hash in `beginnings`. */
export function beginningBit(hash: number): number {
  return mix(hash) >>> (32 - BEGINNING_BITS);
}

/** A Blob's stream would go through another process. */
async function unzip(bytes: Bytes): Promise<Bytes> {
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  written.catch(() => undefined); // the reader fails with it
  return new Uint8Array(await new Response(readable).arrayBuffer());
}
