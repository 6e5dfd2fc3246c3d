// What Python calls: the web half of `insitu.runtime.web`. Plain things and handles only; vectors stay here.

import { Block } from "./block.ts";
import { CollectionStore } from "./collection_store.ts";
import { InsituError } from "./errors.ts";
import { isStored, load, type Bytes, type FileRef } from "./files.ts";
import type { Engine } from "./engine.ts";
import { GrowingCodes } from "./growing.ts";
import { measureDevice } from "./measure.ts";
import type { Place } from "./place.ts";
import type { Codes, Found, Scanner } from "./scan.ts";
import type { Store } from "./store.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { WordIndex } from "./words.ts";

type Best = [positions: Int32Array, scores: Float32Array];
/** A scan that has ended, or goes on until it is `done` or stopped. */
type Scanning = { found: Best | undefined; done?: Promise<Best>; stop(): void };

export class Host {
  #coming = new Map<string, Promise<Bytes>>();

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly engine: Engine,
    private readonly scanner: Scanner,
    private readonly store: Store,
    private readonly fullDim: number,
    private readonly indexBase: string,
    coming: ReadonlyMap<string, Promise<Bytes>>,
    private readonly place: Place,
  ) {
    this.#coming = new Map(coming);
  }

  /** Ids of the texts, flat, and how many each has; what follows the first `limit` of a text may be missing. 0: nothing is. */
  tokenize(texts: string[], limit: number): { ids: Int32Array; lengths: Int32Array } {
    const ids: number[] = [];
    const lengths = texts.map((text) => {
      const before = ids.length;
      this.tokenizer.encode(text, ids, limit || Infinity);
      return ids.length - before;
    });
    return { ids: Int32Array.from(ids), lengths: Int32Array.from(lengths) };
  }

  /** Threads of the page's encoder; 0 where another engine runs the model. */
  get threads(): number {
    const { engine, threads } = this.engine.device;
    return engine === "insitu" ? threads : 0;
  }

  /** `stats().device`, as JSON. */
  get runsOn(): string {
    return JSON.stringify(this.engine.device);
  }

  newBlock(count: number, dim: number): Block {
    return new Block(count, dim, this.fullDim);
  }

  /** See `measureDevice`. */
  device(): Promise<[number, number]> {
    return measureDevice(this.scanner, this.store);
  }

  forward(ids: Int32Array, lengths: Int32Array, block: Block, positions: Int32Array): Promise<void> {
    return this.engine.forward(ids, lengths, block, positions);
  }

  /** The bytes of one index file. One that is loading already is waited for, and then let go. */
  async read(file: string, bytes: number, sha256: string): Promise<Bytes> {
    const coming = this.#coming.get(sha256);
    if (coming) {
      this.#coming.delete(sha256);
      return coming;
    }
    return load({ file, bytes, sha256 }, this.indexBase, "index-corrupt", this.store);
  }

  /** Load a file that a later `read` will ask for; what the store does not take stays in memory until then. */
  async ahead(ref: FileRef, onBytes: (count: number) => void): Promise<void> {
    const bytes = await load(ref, this.indexBase, "index-corrupt", this.store, { onBytes });
    if (!(await isStored(ref, this.store))) this.#coming.set(ref.sha256, Promise.resolve(bytes));
  }

  /** Vector shards, one after another, in the memory of the scan kernel. `files`: a JSON array of file references. */
  async loadCodes(files: string, dim: number): Promise<Codes> {
    const refs = JSON.parse(files) as FileRef[];
    const shards = await Promise.all(refs.map((ref) => this.read(ref.file, ref.bytes, ref.sha256)));
    const bytes = shards.reduce((sum, shard) => sum + shard.length, 0);
    const count = bytes / (dim + 4);
    if (!Number.isInteger(count)) {
      throw new InsituError("index-corrupt", `The shards do not hold vectors of ${dim}. Index the site again.`);
    }
    const codes = this.scanner.reserve(count, dim);
    let first = 0;
    for (const shard of shards) first += this.scanner.append(codes, first, shard);
    return codes;
  }

  /**
   * The `k` best of `codes` for row 0 of `query`: positions and scores, best first. They are `found` at once, or, where there
   * is much to scan, `done` later; `stop` ends that.
   */
  scan(query: Block, codes: Codes, k: number, full: boolean, exact: boolean, among?: Int32Array): Scanning {
    const scanner = codes instanceof GrowingCodes ? codes.scanner : this.scanner;
    const asked = query.query(full);
    const plain = ({ positions, scores }: Found): Best => [positions, scores];
    if (!among && !exact && codes instanceof GrowingCodes) {
      const near = codes.near(asked, k);
      if (near) return { found: plain(near), stop: () => undefined };
    }
    if (among || !scanner.isLong(codes)) {
      return { found: plain(scanner.scan(asked, codes, k, among)), stop: () => undefined };
    }
    const stopping = new AbortController();
    const done = scanner.scanLong([asked], codes, k, stopping.signal).then(([found]) => plain(found!));
    return { found: undefined, done, stop: () => stopping.abort() };
  }

  /** The rows that a filter lets pass; see `insitu.runtime.Passing`. */
  passing(mask: Uint8Array, at: Uint32Array): Int32Array {
    const found = new Int32Array(at.length);
    let count = 0;
    for (let row = 0; row < at.length; row++) {
      if (mask[at[row]!]) found[count++] = row;
    }
    return found.subarray(0, count);
  }

  emptyCodes(dim: number): GrowingCodes {
    return new GrowingCodes(this.scanner.another(), dim);
  }

  openStore(name: string): Promise<CollectionStore> {
    return CollectionStore.open(name);
  }

  /** The word index of a collection. Its library lies in a file of its own. Code: `fetch-failed`. */
  async openWords(store: CollectionStore, version: number): Promise<WordIndex> {
    const url = this.place("words.js");
    let words: typeof import("./words.ts");
    try {
      words = (await import(/* @vite-ignore */ url)) as typeof import("./words.ts");
    } catch (error) {
      throw new InsituError(
        "fetch-failed",
        `${url} cannot be loaded (${(error as Error).message}). Load the page again.`,
      );
    }
    return words.WordIndex.open(store, version);
  }

  /** Cosines of row 0 of `query` at full size to the rows of a shard, as the kernel has them. A few rows: no kernel needed. */
  rescore(query: Block, shard: Uint8Array<ArrayBuffer>): Float32Array {
    const { codes, scale } = query.query(true);
    const dim = codes.length;
    const count = shard.length / (dim + 4);
    const rows = new Int8Array(shard.buffer, shard.byteOffset, count * dim);
    const scales = new Float32Array(shard.slice(count * dim).buffer);
    return scales.map((own, i) => {
      let dot = 0;
      for (let j = 0; j < dim; j++) dot += codes[j]! * rows[i * dim + j]!;
      return Math.fround(dot * own) * scale;
    });
  }
}

/** One call of the page, as Python sees it. It ends once; what comes after is dropped. */
export class Call<T> {
  readonly done: Promise<T>;
  #resolve!: (value: T) => void;
  #reject!: (error: unknown) => void;

  constructor(readonly onProgress?: (done: number, total: number) => void) {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  resolve(value: T): void {
    this.#resolve(value);
  }

  reject(code: string, name: string, message: string): void {
    this.#reject(new InsituError(code, message, name));
  }

  progress(done: number, total: number): void {
    this.onProgress?.(done, total);
  }
}
