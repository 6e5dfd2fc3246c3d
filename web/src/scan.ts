// The scan: vectors in the kernel's own WASM memory, and its best k for a query.

import { InsituError } from "./errors.ts";
import { fetchBytes } from "./files.ts";

interface Kernel {
  heapBase(): number;
  prepare(source: number, dim: number, stride: number, query: number): void;
  scan(
    codes: number,
    scales: number,
    count: number,
    stride: number,
    query: number,
    queryScale: number,
    k: number,
    scores: number,
    positions: number,
  ): number;
  scanAmong(among: number, ...rest: Parameters<Kernel["scan"]>): number;
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

export interface Found {
  positions: Int32Array<ArrayBuffer>;
  scores: Float32Array<ArrayBuffer>;
}

const PAGE = 65536;

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

  /** Fetch the kernel for this browser from `base`. */
  static async open(base: string): Promise<Scanner> {
    const name = WebAssembly.validate(RELAXED) ? "relaxed" : "plain";
    const bytes = await fetchBytes(new URL(`scan.${name}.wasm`, base).href);
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

  /** The `k` best of `codes`, or of the positions in `among`: exact int8 products, equal scores by position. */
  scan(query: { codes: Int8Array; scale: number }, codes: Codes, k: number, among?: Int32Array): Found {
    if (query.codes.length !== codes.dim) {
      throw new InsituError("invalid-argument", `A query of ${query.codes.length} against vectors of ${codes.dim}.`);
    }
    const candidates = among ? among.length : codes.count;
    const wanted = Math.min(k, candidates);
    if (wanted < 1) return { positions: new Int32Array(0), scores: new Float32Array(0) };
    const top = this.#end;
    const source = this.#allocate(codes.dim);
    const prepared = this.#allocate(2 * codes.stride);
    const scores = this.#allocate(4 * wanted);
    const positions = this.#allocate(4 * wanted);
    const list = this.#allocate(among ? 4 * among.length : 0);
    const memory = this.#memory.buffer;
    new Int8Array(memory).set(query.codes, source);
    this.#kernel.prepare(source, codes.dim, codes.stride, prepared);
    const common = [codes.stride, prepared, query.scale, wanted, scores, positions] as const;
    let found: number;
    if (among) {
      new Int32Array(memory, list, among.length).set(Int32Array.from(among).sort());
      found = this.#kernel.scanAmong(list, codes.codes, codes.scales, among.length, ...common);
    } else {
      found = this.#kernel.scan(codes.codes, codes.scales, codes.count, ...common);
    }
    this.#end = top; // what one scan needs is free again
    return {
      positions: new Int32Array(memory, positions, found).slice(),
      scores: new Float32Array(memory, scores, found).slice(),
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
