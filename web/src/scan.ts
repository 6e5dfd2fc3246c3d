// The scan: vectors in the kernel's own WASM memory, and its best k for a query.

import { fetchModule, type Bytes } from "./download.ts";
import { InsituError } from "./errors.ts";
import type { Place } from "./place.ts";
import { SIMD } from "./simd.ts";

interface Kernel {
  heapBase(): number;
  use(codes: number, lower: number, scales: number, stride: number): void;
  split(rows: number, count: number, dim: number, first: number): void;
  prepare(ask: number, dim: number): void;
  scan(ask: number, first: number, end: number): void;
  scanAmong(ask: number, among: number, count: number): void;
  finish(ask: number): number;
}

/** int8 codes with one scale each, in the memory of the kernel. See `insitu.runtime.Codes`. */
export interface Codes {
  readonly count: number;
  readonly dim: number;
  /** Addresses of the upper halves of the codes, of the lower ones and of the scales; bytes from one half to the next. */
  readonly codes: number;
  readonly lower: number;
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
type Look = (asks: number[]) => void;

const PAGE = 65536;
/** Bytes of an ask before its components. */
const HEAD = 32;
/** What a processor reads at once: a row of 128 components is one such line in each plane. */
const LINE = 64;
/** Bytes of a shard that are split at once. */
const SPLIT_BYTES = 1 << 18;
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
    return new Scanner(await fetchModule(place(`scan.${SIMD}.wasm`)), SIMD);
  }

  /** The same kernel with a memory of its own. */
  another(): Scanner {
    return new Scanner(this.module, this.name);
  }

  /** Room for `count` vectors of `dim`; fill it with `append`. */
  reserve(count: number, dim: number): Codes {
    const stride = ((dim + 31) >> 5) << 4;
    const codes = this.#allocate(count * stride);
    const lower = this.#allocate(count * stride);
    return { count, dim, stride, codes, lower, scales: this.#allocate(count * 4) };
  }

  /** `codes` with room for `count` vectors. They must be what was reserved last. */
  widen(codes: Codes, count: number): Codes {
    this.#end = codes.codes;
    const wider = this.reserve(count, codes.dim);
    const memory = new Uint8Array(this.#memory.buffer);
    // From the end: nothing is written over what has not moved yet.
    memory.copyWithin(wider.scales, codes.scales, codes.scales + 4 * codes.count);
    memory.copyWithin(wider.lower, codes.lower, codes.lower + codes.stride * codes.count);
    return wider;
  }

  /** Vectors that no scan finds any more. */
  bury(codes: Codes, positions: Int32Array): void {
    const scales = new Float32Array(this.#memory.buffer, codes.scales, codes.count);
    for (const position of positions) scales[position] = NaN;
  }

  /** A copy of one vector. */
  row({ codes, lower, scales, stride, dim }: Codes, at: number): { codes: Int8Array; scale: number } {
    const { buffer } = this.#memory;
    const [scale] = new Float32Array(buffer, scales + 4 * at, 1);
    const upper = new Uint8Array(buffer, codes + at * stride, stride);
    const rest = new Uint8Array(buffer, lower + at * stride, stride);
    const row = new Int8Array(2 * stride);
    for (let j = 0; j < stride; j++) {
      const to = 2 * (j & ~15) + (j & 15);
      row[to] = (((upper[j]! & 15) << 4) | (rest[j]! & 15)) - 128;
      row[to + 16] = ((upper[j]! & 240) | (rest[j]! >> 4)) - 128;
    }
    return { codes: row.subarray(0, dim), scale: scale! };
  }

  /** Copy a shard (n x dim int8, then n float32) to the vectors from `first` on; gives n. */
  append(to: Codes, first: number, shard: Uint8Array<ArrayBuffer>): number {
    const { dim } = to;
    const count = shard.length / (dim + 4);
    if (!Number.isInteger(count) || first + count > to.count) {
      throw new InsituError("index-corrupt", `A shard does not hold vectors of ${dim}. Index the site again.`);
    }
    const top = this.#end;
    const piece = Math.min(count, Math.ceil(SPLIT_BYTES / dim));
    const rows = this.#allocate(piece * dim);
    const memory = new Uint8Array(this.#memory.buffer);
    this.#use(to);
    for (let done = 0; done < count; done += piece) {
      const size = Math.min(piece, count - done);
      memory.set(shard.subarray(done * dim, (done + size) * dim), rows);
      this.#kernel.split(rows, size, dim, first + done);
    }
    this.#end = top;
    memory.set(shard.subarray(count * dim), to.scales + first * 4);
    return count;
  }

  /** The `k` best of `codes`, or of the positions in `among`: exact products, equal scores by position. */
  scan(query: Query, codes: Codes, k: number, among?: Int32Array): Found {
    if (!among) return this.scanAll([query], codes, k)[0]!;
    return this.#pass([this.#ask(query, codes, Math.min(k, among.length))], codes, (asks) => {
      const list = this.#allocate(4 * among.length);
      new Int32Array(this.#memory.buffer, list, among.length).set(among);
      for (const ask of asks) this.#kernel.scanAmong(ask, list, among.length);
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
    const { count } = codes;
    const asks = queries.map((query) => this.#ask(query, codes, Math.min(k, count)));
    const step = Math.max(1, Math.floor(STEP_BYTES / bytesOf(codes) / queries.length));
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
    return codes.count * bytesOf(codes) > STEP_BYTES;
  }

  /** Look at some rows, in blocks that stay in the cache from query to query. */
  #rows(codes: Codes, first: number, end: number): Look {
    return (asks) => {
      const block = asks.length > 1 ? Math.ceil(BLOCK_BYTES / bytesOf(codes) / 4) * 4 : end - first;
      for (let start = first; start < end; start += block) {
        const stop = Math.min(end, start + block);
        for (const ask of asks) this.#kernel.scan(ask, start, stop);
      }
    };
  }

  /** An ask as the kernel has it (kernel/scan.ts), made ready. It lies here between passes, for vectors may move. */
  #ask(query: Query, codes: Codes, k: number): Bytes {
    const { dim } = codes;
    if (query.codes.length !== dim || dim > LARGEST_DIM) {
      throw new InsituError("invalid-argument", `A query of ${query.codes.length} against vectors of ${dim}.`);
    }
    const ask = new Uint8Array(bestAt(codes) + 8 * k);
    const head = new DataView(ask.buffer);
    head.setInt32(4, k, true);
    head.setFloat32(8, query.scale, true);
    new Int16Array(ask.buffer, HEAD, dim).set(query.codes);
    const top = this.#end;
    const at = this.#allocate(ask.length);
    const memory = new Uint8Array(this.#memory.buffer);
    memory.set(ask, at);
    this.#use(codes);
    this.#kernel.prepare(at, dim);
    ask.set(memory.subarray(at, at + ask.length));
    this.#end = top;
    return ask;
  }

  /** `look` with all of `asks` in the memory of the kernel; what they hold then, in order if this was the `last` of them. */
  #pass(asks: Bytes[], codes: Codes, look: Look, last = true): Found[] {
    const top = this.#end;
    const wanted = asks.filter((ask) => ask.length > bestAt(codes)); // others want nothing
    const at = wanted.map((ask) => this.#allocate(ask.length));
    wanted.forEach((ask, i) => new Uint8Array(this.#memory.buffer, at[i]!, ask.length).set(ask));
    this.#use(codes);
    look(at);
    if (last) for (const ask of at) this.#kernel.finish(ask);
    wanted.forEach((ask, i) => ask.set(new Uint8Array(this.#memory.buffer, at[i]!, ask.length)));
    this.#end = top; // what one pass needs is free again
    return asks.map(({ buffer }) => {
      const head = new Int32Array(buffer, 0, 2);
      const [found, k, best] = [head[0]!, head[1]!, bestAt(codes)];
      return { scores: new Float32Array(buffer, best, found), positions: new Int32Array(buffer, best + 4 * k, found) };
    });
  }

  #use({ codes, lower, scales, stride }: Codes): void {
    this.#kernel.use(codes, lower, scales, stride);
  }

  /** Room at the end of the memory. */
  #allocate(bytes: number): number {
    const start = Math.ceil(this.#end / LINE) * LINE;
    this.#end = start + bytes;
    const missing = this.#end - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE));
    return start;
  }
}

/** The bytes of a vector: both its halves. */
function bytesOf({ stride }: Codes): number {
  return 2 * stride;
}

/** Where the best begin in an ask: after its head, its components, and these in the order of the halves. */
function bestAt({ stride }: Codes): number {
  return HEAD + 8 * stride;
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
