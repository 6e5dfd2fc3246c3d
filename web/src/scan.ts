// The scan: vectors in the kernel's own WASM memory, and its best k for a query.

import { InsituError } from "./errors.ts";
import { fetchBytes } from "./files.ts";
import type { Place } from "./place.ts";

interface Kernel {
  heapBase(): number;
  prepare(ask: number, dim: number, stride: number): void;
  scan(ask: number, codes: number, scales: number, first: number, end: number, stride: number): void;
  scanAmong(ask: number, codes: number, scales: number, among: number, count: number, stride: number): void;
  finish(ask: number, stride: number): number;
}

/** int8 codes with one scale each, in the memory of the kernel. See `insitu.runtime.Codes`. */
export interface Codes {
  readonly count: number;
  readonly dim: number;
  /** Addresses, and the bytes from one vector to the next. */
  readonly codes: number;
  readonly scales: number;
  readonly stride: number;
}

/** A query as the kernel takes it: components of 15 bits (`fine` and `coarse` make them), and what one unit is worth. */
export interface Query {
  codes: Int16Array;
  scale: number;
}

export interface Found {
  positions: Int32Array<ArrayBuffer>;
  scores: Float32Array<ArrayBuffer>;
}

const PAGE = 65536;
/** The largest component of a query: 127 * 128, so that codes of 8 bits are components too. See kernel/scan.ts. */
const MOST = 16256;
/** Above that a product may leave 32 bits. */
const LARGEST_DIM = 1024;

// The smallest module with a relaxed instruction (i32x4.relaxed_dot_i8x16_i7x16_add_s of three zeros): is it there?
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 20, 1, 18, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0,
  253, 15, 253, 147, 2, 26, 11,
]);

export class Scanner {
  #memory: WebAssembly.Memory;
  #kernel: Kernel;
  #end: number;

  constructor(
    private readonly module: WebAssembly.Module,
    readonly name: "relaxed" | "plain",
  ) {
    this.#memory = new WebAssembly.Memory({ initial: 1 });
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.#memory } });
    this.#kernel = exports as unknown as Kernel;
    this.#end = this.#kernel.heapBase();
  }

  /** Fetch the kernel for this browser. */
  static async open(place: Place): Promise<Scanner> {
    const name = WebAssembly.validate(RELAXED) ? "relaxed" : "plain";
    const bytes = await fetchBytes(place(`scan.${name}.wasm`));
    return new Scanner(await WebAssembly.compile(bytes), name);
  }

  /** The same kernel with a memory of its own. */
  another(): Scanner {
    return new Scanner(this.module, this.name);
  }

  /** Room for `count` vectors of `dim`; fill it with `append`. */
  reserve(count: number, dim: number): Codes {
    const stride = (dim + 15) & ~15;
    const codes = this.#allocate(count * stride);
    return { count, dim, stride, codes, scales: this.#allocate(count * 4) };
  }

  /** `codes` with room for `count` vectors. They must be what was reserved last. */
  widen(codes: Codes, count: number): Codes {
    this.#end = codes.codes;
    const wider = this.reserve(count, codes.dim);
    new Uint8Array(this.#memory.buffer).copyWithin(wider.scales, codes.scales, codes.scales + 4 * codes.count);
    return wider;
  }

  /** Vectors that no scan finds any more. */
  bury(codes: Codes, positions: Int32Array): void {
    const scales = new Float32Array(this.#memory.buffer, codes.scales, codes.count);
    for (const position of positions) scales[position] = NaN;
  }

  /** Copy a shard (n x dim int8, then n float32) to the vectors from `first` on; gives n. */
  append(to: Codes, first: number, shard: Uint8Array<ArrayBuffer>): number {
    const count = shard.length / (to.dim + 4);
    if (!Number.isInteger(count) || first + count > to.count) {
      throw new InsituError("index-corrupt", `A shard does not hold vectors of ${to.dim}. Index the site again.`);
    }
    const memory = new Uint8Array(this.#memory.buffer);
    const split = count * to.dim;
    if (to.stride === to.dim) {
      memory.set(shard.subarray(0, split), to.codes + first * to.stride);
    } else {
      for (let i = 0; i < count; i++) {
        memory.set(shard.subarray(i * to.dim, (i + 1) * to.dim), to.codes + (first + i) * to.stride);
      }
    }
    memory.set(shard.subarray(split), to.scales + first * 4);
    return count;
  }

  /** The `k` best of `codes`, or of the positions in `among`: exact products, equal scores by position. */
  scan(query: Query, codes: Codes, k: number, among?: Int32Array): Found {
    const { dim, stride } = codes;
    if (query.codes.length !== dim || dim > LARGEST_DIM) {
      throw new InsituError("invalid-argument", `A query of ${query.codes.length} against vectors of ${dim}.`);
    }
    const wanted = Math.min(k, among ? among.length : codes.count);
    if (wanted < 1) return { positions: new Int32Array(0), scores: new Float32Array(0) };
    const top = this.#end;
    const ask = this.#allocate(16 + 4 * stride + 8 * wanted);
    const list = this.#allocate(among ? 4 * among.length : 0);
    const memory = this.#memory.buffer;
    const head = new DataView(memory, ask);
    head.setInt32(4, wanted, true);
    head.setFloat32(8, query.scale, true);
    const components = new Int16Array(memory, ask + 16, stride);
    components.set(query.codes);
    components.fill(0, dim);
    this.#kernel.prepare(ask, dim, stride);
    if (among) {
      new Int32Array(memory, list, among.length).set(among);
      this.#kernel.scanAmong(ask, codes.codes, codes.scales, list, among.length, stride);
    } else {
      this.#kernel.scan(ask, codes.codes, codes.scales, 0, codes.count, stride);
    }
    const found = this.#kernel.finish(ask, stride);
    this.#end = top; // what one scan needs is free again
    const scores = ask + 16 + 4 * stride;
    return {
      scores: new Float32Array(memory, scores, found).slice(),
      positions: new Int32Array(memory, scores + 4 * wanted, found).slice(),
    };
  }

  /** 16-byte aligned room at the end of the memory. */
  #allocate(bytes: number): number {
    const start = (this.#end + 15) & ~15;
    this.#end = start + bytes;
    const missing = this.#end - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE));
    return start;
  }
}

/** A vector as a query: nearly nothing is lost, and codes of 8 bits would lose as much as the documents' own do. */
export function fine(vector: Float32Array): Query {
  let most = 0;
  for (const value of vector) most = Math.max(most, Math.abs(value));
  const scale = Math.fround(most / MOST) || 1;
  return { codes: Int16Array.from(vector, (value) => Math.round(value / scale)), scale };
}

/** Codes of 8 bits as a query. The scores are the very ones of these codes: factors of 128 change no rounding. */
export function coarse(codes: Int8Array, scale: number): Query {
  return { codes: Int16Array.from(codes, (code) => 128 * code), scale: scale / 128 };
}
