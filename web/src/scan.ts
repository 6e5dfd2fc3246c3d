// The scan: vectors in the kernel's own WASM memory, and its best k for a query.

import { InsituError } from "./errors.ts";
import { fetchBytes, type Bytes } from "./files.ts";
import type { Place } from "./place.ts";
import { SIMD } from "./simd.ts";

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

/** What the kernel does with asks at these addresses. */
type Look = (codes: Codes, asks: number[]) => void;

const PAGE = 65536;
/** Bytes of an ask before its components. */
const HEAD = 16;
/** Vectors that several queries look at in turn: half of a small second cache. */
const BLOCK_BYTES = 1 << 17;
/** Vectors between two turns of a long scan: 3 ms and more on one thread. */
const STEP_BYTES = 1 << 25;
/** The largest component of a query: 127 * 128, so that codes of 8 bits are components too. See kernel/scan.ts. */
const MOST = 16256;
/** Above that a product may leave 32 bits. */
const LARGEST_DIM = 1024;

export class Scanner {
  #memory: WebAssembly.Memory;
  #kernel: Kernel;
  #end: number;

  constructor(
    private readonly module: WebAssembly.Module,
    readonly name: typeof SIMD,
  ) {
    this.#memory = new WebAssembly.Memory({ initial: 1 });
    const { exports } = new WebAssembly.Instance(module, { env: { memory: this.#memory } });
    this.#kernel = exports as unknown as Kernel;
    this.#end = this.#kernel.heapBase();
  }

  /** Fetch the kernel for this browser. */
  static async open(place: Place): Promise<Scanner> {
    const bytes = await fetchBytes(place(`scan.${SIMD}.wasm`));
    return new Scanner(await WebAssembly.compile(bytes), SIMD);
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

  /** A copy of one vector. */
  row(codes: Codes, at: number): { codes: Int8Array; scale: number } {
    const { buffer } = this.#memory;
    const [scale] = new Float32Array(buffer, codes.scales + 4 * at, 1);
    return { codes: new Int8Array(buffer, codes.codes + at * codes.stride, codes.dim).slice(), scale: scale! };
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
    if (!among) return this.scanAll([query], codes, k)[0]!;
    return this.#pass([this.#ask(query, codes, Math.min(k, among.length))], codes, (at, address) => {
      const list = this.#allocate(4 * among.length);
      new Int32Array(this.#memory.buffer, list, among.length).set(among);
      const { stride } = codes;
      for (const ask of address) this.#kernel.scanAmong(ask, at.codes, at.scales, list, among.length, stride);
    })[0]!;
  }

  /** As `scan`, for several queries: the vectors are read once for all of them. */
  scanAll(queries: Query[], codes: Codes, k: number): Found[] {
    const asks = queries.map((query) => this.#ask(query, codes, Math.min(k, codes.count)));
    return this.#pass(asks, codes, this.#rows(codes, 0, codes.count));
  }

  /**
   * As `scanAll`, in steps of `STEP_BYTES` between which other work gets its turn. Vectors may be added and buried meanwhile:
   * the answer is then of no one state, and it is for the caller to know. Code: `aborted`, at the next step.
   */
  async scanLong(queries: Query[], codes: Codes, k: number, signal?: AbortSignal): Promise<Found[]> {
    const { count, stride } = codes;
    const asks = queries.map((query) => this.#ask(query, codes, Math.min(k, count)));
    const step = Math.max(1, Math.floor(STEP_BYTES / stride / queries.length));
    let first = 0;
    for (; first + step < count; first += step) {
      this.#pass(asks, codes, this.#rows(codes, first, first + step), false);
      await turn();
      if (signal?.aborted) throw new InsituError("aborted", "The call was ended by its caller.", "AbortError");
    }
    return this.#pass(asks, codes, this.#rows(codes, first, count));
  }

  /** Whether a scan of all of `codes` is long enough to be worth steps. */
  isLong(codes: Codes): boolean {
    return codes.count * codes.stride > STEP_BYTES;
  }

  /** Look at some rows, in blocks that stay in the cache from query to query. */
  #rows(codes: Codes, first: number, end: number): Look {
    const { stride } = codes;
    return (at, asks) => {
      const block = asks.length > 1 ? Math.ceil(BLOCK_BYTES / stride / 4) * 4 : end - first;
      for (let start = first; start < end; start += block) {
        const stop = Math.min(end, start + block);
        for (const ask of asks) this.#kernel.scan(ask, at.codes, at.scales, start, stop, stride);
      }
    };
  }

  /** An ask as the kernel has it (kernel/scan.ts), made ready. It lies here between passes, for vectors may move. */
  #ask(query: Query, { dim, stride }: Codes, k: number): Bytes {
    if (query.codes.length !== dim || dim > LARGEST_DIM) {
      throw new InsituError("invalid-argument", `A query of ${query.codes.length} against vectors of ${dim}.`);
    }
    const ask = new Uint8Array(HEAD + 4 * stride + 8 * k);
    const head = new DataView(ask.buffer);
    head.setInt32(4, k, true);
    head.setFloat32(8, query.scale, true);
    new Int16Array(ask.buffer, HEAD, dim).set(query.codes);
    const top = this.#end;
    const at = this.#allocate(ask.length);
    const memory = new Uint8Array(this.#memory.buffer);
    memory.set(ask, at);
    this.#kernel.prepare(at, dim, stride);
    ask.set(memory.subarray(at, at + ask.length));
    this.#end = top;
    return ask;
  }

  /** `look` with all of `asks` in the memory of the kernel; what they hold then, in order if this was the `last` of them. */
  #pass(asks: Bytes[], codes: Codes, look: Look, last = true): Found[] {
    const top = this.#end;
    const wanted = asks.filter((ask) => ask.length > HEAD + 4 * codes.stride); // others want nothing
    const at = wanted.map((ask) => this.#allocate(ask.length));
    wanted.forEach((ask, i) => new Uint8Array(this.#memory.buffer, at[i]!, ask.length).set(ask));
    look(codes, at);
    if (last) for (const ask of at) this.#kernel.finish(ask, codes.stride);
    wanted.forEach((ask, i) => ask.set(new Uint8Array(this.#memory.buffer, at[i]!, ask.length)));
    this.#end = top; // what one pass needs is free again
    return asks.map(({ buffer }) => {
      const head = new Int32Array(buffer, 0, 2);
      const [found, k, best] = [head[0]!, head[1]!, HEAD + 4 * codes.stride];
      return { scores: new Float32Array(buffer, best, found), positions: new Int32Array(buffer, best + 4 * k, found) };
    });
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

/** After what else waits: `setTimeout` would wait for 4 ms, a promise for nothing. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
