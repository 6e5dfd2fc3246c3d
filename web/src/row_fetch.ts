// Blocks of token rows by HTTP Range: few requests for many blocks, each block checked before anybody has it, a request
// that breaks off continued where it broke.

import { InsituError } from "./errors.ts";
import { canVerify, type Bytes } from "./files.ts";

/** Milliseconds without a byte after which a request counts as lost. */
const STALL = 30_000;
/** Waits before further attempts when one has brought nothing, in milliseconds. */
const WAITS = [300, 1000, 3000];
/** Requests at a time: browsers open six connections to a host of HTTP/1.1, and others want some too. */
const AT_ONCE = 4;
const HASH_BYTES = 16;

/** How the table lies in its file: `count` blocks of `blockBytes`, the last one shorter; `hashes` holds 16 bytes of each. */
export interface Layout {
  url: string;
  bytes: number;
  blockBytes: number;
  count: number;
  hashes: Bytes;
}

/** Blocks `first` to `end`, without `end`. */
export interface Run {
  first: number;
  end: number;
}

/** Who gets the blocks. */
export interface Taker {
  /** Whether this block would be taken; one that would not is not even checked. */
  wants(block: number): boolean;
  /** A block that is right, in a buffer of its own. */
  take(block: number, bytes: Bytes): void;
  /** A request has ended: what it brought must last, as the next one may fail. */
  ended(): void;
  /** Whether the whole file may come, from a server that knows no ranges. */
  mayLoadWhole(): boolean;
}

/** `blocks` (in any order, each once) in runs that bridge up to `gap` others: these cost less than another request. */
export function plan(blocks: number[], gap: number): Run[] {
  const runs: Run[] = [];
  for (const block of [...blocks].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last && block - last.end <= gap) last.end = block + 1;
    else runs.push({ first: block, end: block + 1 });
  }
  return runs;
}

export class RowFetch {
  /** Requests so far and the bytes that came. `ranges`: false once the server has answered with the whole file. */
  readonly stats = { requests: 0, bytes: 0, ranges: true };
  #layout: Layout;
  #taker: Taker;
  #running = 0;
  #queue: (() => void)[] = [];
  /** The whole file, while it is on its way. */
  #whole: Promise<void> | undefined;

  constructor(layout: Layout, taker: Taker) {
    this.#layout = layout;
    this.#taker = taker;
  }

  length(block: number): number {
    return Math.min(this.#layout.blockBytes, this.#layout.bytes - block * this.#layout.blockBytes);
  }

  /** Whether `bytes` are those of `block`. Outside secure contexts only their number can be checked. */
  async isRight(block: number, bytes: Bytes): Promise<boolean> {
    if (bytes.length !== this.length(block)) return false;
    if (!canVerify) return true;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const at = block * HASH_BYTES;
    return this.#layout.hashes.subarray(at, at + HASH_BYTES).every((byte, i) => byte === digest[i]);
  }

  /**
   * Fetch those blocks of `run` that are `needed`, until none is. Codes: `fetch-failed`, `model-corrupt`,
   * `range-unsupported`, and what the taker throws.
   */
  async fetch(run: Run, needed: (block: number) => boolean): Promise<void> {
    let { first, end } = run;
    for (let failures = 0; ;) {
      while (first < end && !needed(first)) first++;
      while (first < end && !needed(end - 1)) end--;
      if (first === end) return;
      const error = await this.#turn(() => this.#request(first, end));
      this.#taker.ended();
      if (!needed(first)) failures = 0;
      else if (error?.final || failures === WAITS.length) throw error?.named ?? this.#failed("the answer was cut");
      else await new Promise((resolve) => setTimeout(resolve, WAITS[failures++]!));
    }
  }

  async #turn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#running++;
    try {
      return await work();
    } finally {
      const next = this.#queue.shift();
      if (next) next();
      else this.#running--;
    }
  }

  /** One request. Resolves to what went wrong, if anything did; whoever needs a block looks whether it came. */
  async #request(first: number, end: number): Promise<Broken | undefined> {
    // It brings what others want too.
    if (this.#whole) return void (await this.#whole.catch(() => undefined));
    const { url, bytes: size, blockBytes } = this.#layout;
    const start = first * blockBytes;
    const stop = Math.min(end * blockBytes, size);
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const alive = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => control.abort(), STALL);
    };
    this.stats.requests++;
    try {
      alive();
      // Past the browser's cache: there one request of a file would wait for the others, and blocks are kept by us.
      const headers = { Range: `bytes=${start}-${stop - 1}` };
      const response = await fetch(url, { headers, cache: "no-store", signal: control.signal });
      if (!this.#isWhole(response, start)) await this.#read(response, first, stop, alive);
      else if (!this.#whole) {
        this.#whole = this.#read(response, 0, size, alive);
        await this.#whole.finally(() => (this.#whole = undefined));
      }
      return undefined;
    } catch (error) {
      if (error instanceof Broken) return error;
      if (error instanceof InsituError) throw error;
      const cause = control.signal.aborted ? `no byte came for ${STALL / 1000} s` : (error as Error).message;
      return new Broken(this.#failed(cause));
    } finally {
      clearTimeout(timer);
      control.abort(); // of an answer that is not read to its end
    }
  }

  /** Hand on the blocks of an answer that begins with block `block` and ends before byte `stop` of the file. */
  async #read(response: Response, block: number, stop: number, alive: () => void): Promise<void> {
    const { blockBytes } = this.#layout;
    const reader = response.body!.getReader();
    let piece: Bytes = new Uint8Array(this.length(block));
    let filled = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      this.stats.bytes += value.length;
      for (let at = 0; at < value.length;) {
        if (block * blockBytes >= stop) throw new Broken(this.#changed("it is longer"));
        const part = value.subarray(at, at + piece.length - filled);
        piece.set(part, filled);
        filled += part.length;
        at += part.length;
        if (filled < piece.length) break;
        if (this.#taker.wants(block)) {
          if (!(await this.isRight(block, piece))) throw new Broken(this.#changed(`block ${block} is another`));
          this.#taker.take(block, piece);
          piece = new Uint8Array(0); // the taker has it
        }
        block++;
        const length = Math.max(0, this.length(block));
        if (piece.length !== length) piece = new Uint8Array(length);
        filled = 0;
      }
    }
  }

  /** Whether the answer is the whole file; throws if it is neither that nor the part that begins at `start`. */
  #isWhole(response: Response, start: number): boolean {
    const { url, bytes } = this.#layout;
    const { status } = response;
    // A server of another origin may hide this header: then the hashes alone decide.
    const [, from, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "") ?? [];
    if (status === 416 || (status === 206 && total && total !== "*" && Number(total) !== bytes)) {
      throw new Broken(this.#changed("it has another size"), true);
    }
    if (status === 206 && (from === undefined || Number(from) === start)) return false;
    if (status === 206) throw new Broken(this.#failed("it answered with another part"));
    if (status !== 200) {
      throw new Broken(this.#failed(`it answered ${status}`), status >= 400 && status < 500 && status !== 429);
    }
    this.stats.ranges = false;
    if (this.#taker.mayLoadWhole()) return true;
    throw new InsituError(
      "range-unsupported",
      `${url}: the server sends whole files only (no HTTP Range), and there is no place here for ` +
        `${(bytes / 1e6).toFixed(0)} MB. Serve it from a host that answers Range requests with 206.`,
    );
  }

  #changed(how: string): InsituError {
    return new InsituError(
      "model-corrupt",
      `${this.#layout.url} is not the file of token rows that the model names: ${how}. Load the page again; ` +
        "if that does not help, upload the model again.",
    );
  }

  #failed(cause: string): InsituError {
    return new InsituError(
      "fetch-failed",
      `${this.#layout.url} could not be fetched (${cause}). Check the connection and ask again.`,
    );
  }
}

/** A request that ended without all that it was made for. `final`: another one would end in the same way. */
class Broken extends Error {
  constructor(
    readonly named: InsituError,
    readonly final = false,
  ) {
    super(named.message);
  }
}
