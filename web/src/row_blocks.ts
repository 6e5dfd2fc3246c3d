// Token rows in blocks: from memory, from disk, from the server, in this order. One fetch serves all that wait for it.

import { InsituError } from "./errors.ts";
import type { Bytes, OnBytes } from "./files.ts";
import type { Stats } from "./protocol.ts";
import type { RowDisk } from "./row_disk.ts";
import { plan, RowFetch, type Layout, type Taker } from "./row_fetch.ts";
import type { RowMode, Rows } from "./rows.ts";

/** Bytes of blocks in memory, at most. */
const MEMORY = 16e6;
/** Blocks between two wanted ones that are fetched with them rather than in a request of their own. */
const GAP = 1;
/** The same while the whole table is fetched. */
const FILL_GAP = 64;
/** Ahead of questions, the rows of the most frequent tokens are fetched: the first ones of the table, so many bytes. */
const AHEAD = 8e6;
/** Bytes of one request ahead: short, so that a question never waits long behind it. */
const AHEAD_RUN = 1e6;
/** Milliseconds without a question after which more is fetched ahead. */
const IDLE = 1000;

interface Waiting {
  promise: Promise<Bytes>;
  resolve(bytes: Bytes): void;
  reject(error: unknown): void;
}

export class RowBlocks implements Rows, Taker {
  readonly perPart: number;
  #layout: Layout;
  #fetch: RowFetch;
  #disk: RowDisk | undefined;
  #reason: string;
  /** Least recently used first. */
  #memory = new Map<number, Bytes>();
  #held = 0;
  #waiting = new Map<number, Waiting>();
  #lastAsked = 0;
  #asking = 0;
  /** Set while the whole table is brought to the disk. */
  #onFilled: OnBytes | undefined;

  constructor(
    layout: Layout,
    readonly record: number,
    private readonly rowCount: number,
    private mode: RowMode,
    disk: RowDisk | undefined,
    reason: string,
  ) {
    this.perPart = layout.blockBytes / record;
    this.#layout = layout;
    this.#fetch = new RowFetch(layout, this);
    this.#disk = disk;
    this.#reason = reason;
  }

  get stats(): Stats["rows"] {
    const place = this.#disk ? "disk" : "memory";
    return { mode: this.mode, place, reason: this.#reason, held: this.#held, ...this.#fetch.stats };
  }

  async load(ids: Int32Array): Promise<ReadonlyMap<number, Bytes>> {
    checkIds(ids, this.rowCount);
    this.#asking++;
    try {
      const blocks = [...new Set(Array.from(ids, (id) => Math.floor(id / this.perPart)))];
      const found = await this.#load(blocks);
      return new Map(blocks.map((block, i) => [block, found[i]!]));
    } finally {
      this.#asking--;
      this.#lastAsked = performance.now();
    }
  }

  /**
   * Bring the whole table to the disk; what is there already is not fetched again, and tabs that want this at once do it
   * once. Codes: those of `load`, and `storage-unavailable`.
   */
  async fill(expect: (bytes: number) => void, onBytes: OnBytes): Promise<void> {
    const disk = this.#disk!;
    const lacks = (block: number): boolean => !disk.has(block);
    await navigator.locks.request(`insitu rows ${disk.name}`, async () => {
      await disk.refresh();
      const missing = Array.from({ length: this.#layout.count }, (_, block) => block).filter(lacks);
      if (missing.length && !disk.writes) {
        throw storageUnavailable(this.#layout.bytes, "another tab of this site has them open: close it");
      }
      expect(missing.reduce((sum, block) => sum + this.#fetch.length(block), 0));
      this.#onFilled = onBytes;
      try {
        for (const run of plan(missing, FILL_GAP)) await this.#fetch.fetch(run, lacks);
      } finally {
        this.ended();
        disk.flush();
        this.#onFilled = undefined;
      }
    });
  }

  /** Rows come as they are asked for, after all: `fill` has failed for want of space. */
  stream(): void {
    this.mode = "stream";
  }

  /**
   * Fetch the rows of `ids`, which every question may need, then in idle time those of frequent tokens: so questions ask for
   * less, are quicker, and tell the host less. Ends by itself, on the first error too: a question that needs the same will tell.
   */
  async fetchAhead(ids: Int32Array): Promise<boolean> {
    if (this.mode === "all") return true;
    if ((navigator as { connection?: { saveData?: boolean } }).connection?.saveData) return false;
    const here = await this.load(ids).then(
      () => true,
      () => false,
    );
    const { blockBytes, count } = this.#layout;
    const last = Math.min(count, Math.floor(AHEAD / blockBytes));
    const step = Math.ceil(AHEAD_RUN / blockBytes);
    this.#lastAsked = performance.now();
    for (let first = 0; first < last && this.#fetch.stats.ranges; first += step) {
      while (this.#asking > 0 || performance.now() - this.#lastAsked < IDLE) {
        await new Promise((resolve) => setTimeout(resolve, IDLE / 4));
      }
      const run = { first, end: Math.min(first + step, last) };
      try {
        await this.#fetch.fetch(run, (block) => this.wants(block));
      } catch {
        break;
      }
    }
    return here;
  }

  async #load(blocks: number[]): Promise<Bytes[]> {
    const missing: number[] = [];
    const coming = blocks.map((block) => {
      const held = this.#memory.get(block);
      if (held) {
        this.#memory.delete(block);
        this.#memory.set(block, held);
        return held;
      }
      if (!this.#waiting.has(block)) missing.push(block);
      return this.#expect(block);
    });
    if (missing.length) void this.#bring(missing);
    // To the end of all, so that the next call does not wait for what is failing already.
    await Promise.allSettled(coming);
    return Promise.all(coming);
  }

  #expect(block: number): Promise<Bytes> {
    let waiting = this.#waiting.get(block);
    if (!waiting) {
      waiting = Promise.withResolvers<Bytes>();
      waiting.promise.catch(() => undefined); // whoever waits is told
      this.#waiting.set(block, waiting);
    }
    return waiting.promise;
  }

  /** End the wait for each of `blocks`, by its bytes or an error. */
  async #bring(blocks: number[]): Promise<void> {
    const kept = await Promise.all(blocks.map((block) => this.#fromDisk(block)));
    const missing = new Set(blocks.filter((_, i) => !kept[i]));
    const runs = plan([...missing], GAP).map(async (run) => {
      try {
        await this.#fetch.fetch(run, (block) => missing.has(block) && this.#waiting.has(block));
      } catch (error) {
        for (let block = run.first; block < run.end; block++) {
          if (!missing.has(block)) continue;
          this.#waiting.get(block)?.reject(error);
          this.#waiting.delete(block);
        }
      }
    });
    await Promise.all(runs);
  }

  /** Whether the disk had the block, whole. */
  async #fromDisk(block: number): Promise<boolean> {
    const disk = this.#disk;
    if (!disk?.has(block)) return false;
    try {
      const bytes = await disk.read(block, this.#fetch.length(block));
      if (bytes && (await this.#fetch.isRight(block, bytes))) {
        this.#settle(block, bytes);
        return true;
      }
    } catch (error) {
      this.#because(error);
    }
    disk.drop(block);
    return false;
  }

  #settle(block: number, bytes: Bytes): void {
    if (!this.#memory.has(block)) this.#held += bytes.length;
    this.#memory.set(block, bytes);
    for (const [oldest, { length }] of this.#memory) {
      if (this.#held <= MEMORY) break;
      this.#memory.delete(oldest);
      this.#held -= length;
    }
    this.#waiting.get(block)?.resolve(bytes);
    this.#waiting.delete(block);
  }

  #because(error: unknown): void {
    this.#reason ||= error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }

  // What the fetch asks of us.

  wants(block: number): boolean {
    return this.#waiting.has(block) || !(this.#disk?.has(block) || this.#memory.has(block));
  }

  mayLoadWhole(): boolean {
    return this.#disk?.writes === true || this.#layout.bytes <= MEMORY;
  }

  take(block: number, bytes: Bytes): void {
    const kept = this.#keep(block, bytes);
    if (!kept || this.#waiting.has(block)) this.#settle(block, bytes);
  }

  /** Whether the disk has the block now. If it cannot, what it has may still be read. */
  #keep(block: number, bytes: Bytes): boolean {
    if (!this.#disk?.writes || this.#disk.has(block)) return this.#disk?.has(block) ?? false;
    const kept = this.#write((disk) => (this.#onFilled ? disk.hold(block, bytes) : disk.write(block, bytes)));
    if (kept) this.#onFilled?.(bytes.length);
    return kept;
  }

  ended(): void {
    if (this.#disk?.writes) this.#write((disk) => disk.writeHeld());
  }

  #write(work: (disk: RowDisk) => void): boolean {
    try {
      work(this.#disk!);
      return true;
    } catch (error) {
      this.#disk!.writes = false;
      this.#because(error);
      if (this.#onFilled) throw storageUnavailable(this.#layout.bytes, this.#reason);
      return false;
    }
  }
}

/** Code: `model-corrupt`. */
export function checkIds(ids: Int32Array, count: number): void {
  const wrong = ids.find((id) => id < 0 || id >= count);
  if (wrong === undefined) return;
  throw new InsituError(
    "model-corrupt",
    `The tokenizer gave the id ${wrong}, but the model has ${count} token rows: they are not of one model. Export it again.`,
  );
}

export function storageUnavailable(bytes: number, reason: string): InsituError {
  return new InsituError(
    "storage-unavailable",
    `The token rows (${(bytes / 1e6).toFixed(0)} MB) cannot be kept in this browser (${reason}). ` +
      "Free some space, leave a private window, or open with rows: 'stream'.",
  );
}
