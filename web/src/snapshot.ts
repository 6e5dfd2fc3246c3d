// A snapshot of the interpreter's memory, made on the first visit: the next one starts from it instead of from nothing.

import type { Bytes } from "./download.ts";
import { release } from "./release.ts";
import type { Store } from "./store.ts";

/** Bytes of what a processor keeps in memory as one. */
const PAGE = 4096;
/** 1 had pages of 64 kB, of the snapshot with its head. */
const FORMAT = 2;
/** Numbers before the list of runs. */
const HEADER = 4;

/** The snapshot of one interpreter in one browser. */
export class Snapshot {
  /** What became of it in this visit, and why. */
  state: "none" | "used" | "made" | "refused" = "none";
  reason = "";
  #made: Bytes | undefined;

  /**
   * `interpreter`: hash over its files. The browser is part of the name: what it can do was found out when the snapshot was
   * made, and an update may change that.
   */
  constructor(
    private readonly store: Store,
    private readonly interpreter: string,
  ) {}

  get #key(): string {
    return `${this.interpreter}/${encodeURIComponent(navigator.userAgent)}`;
  }

  /**
   * The stored snapshot, if there is one and it is whole, for a Pyodide whose memory will be `memory()`. `stored`: what was read
   * while its name was not known yet.
   */
  async take(stored: Awaited<ReturnType<Store["only"]>>, memory: () => Int8Array): Promise<Bytes | undefined> {
    const found = stored?.key === this.#key ? stored.piece : await this.store.get(this.#key);
    if (!found) return undefined;
    try {
      return unpack(found.bytes, memory);
    } catch (error) {
      release(found.bytes);
      return this.refuse(error);
    }
  }

  /** It is no good: drop it. The start goes on without. */
  async refuse(error: unknown): Promise<undefined> {
    this.state = "refused";
    this.reason = error instanceof Error ? error.message : String(error);
    await this.store.drop(this.interpreter);
  }

  /** Whether a snapshot made in this visit could be kept. */
  get wanted(): boolean {
    return this.store.works;
  }

  /** Keep `memory` for `save`; a copy without its empty pages, which are two thirds of it. */
  made(memory: Bytes): void {
    this.#made = pack(memory);
    release(memory);
  }

  /** Store what was made, in place of the snapshots of other interpreters. */
  async save(): Promise<void> {
    const bytes = this.#made;
    if (!bytes) return;
    this.#made = undefined;
    await this.store.put(this.#key, bytes);
    release(bytes);
    await this.store.keepOnly(this.#key);
    if (this.store.works && this.state === "none") this.state = "made";
  }
}

/**
 * Of a snapshot: FORMAT, its length, that of its head, the number of runs of pages that are not empty (uint32 each), first page
 * and number of pages of each run, the head, those pages. Pages are those of the memory, which follows the head.
 */
export function pack(snapshot: Bytes): Bytes {
  // Pyodide's own layout: magic number, offset of the memory.
  const head = new Uint32Array(snapshot.buffer, snapshot.byteOffset, 2)[1]!;
  const memory = snapshot.subarray(head);
  const runs: [first: number, count: number][] = [];
  for (let page = 0; page * PAGE < memory.length; page++) {
    if (isEmpty(memory.subarray(page * PAGE, (page + 1) * PAGE))) continue;
    const last = runs.at(-1);
    if (last && last[0] + last[1] === page) last[1]++;
    else runs.push([page, 1]);
  }
  const parts = [snapshot.subarray(0, head), ...runs.map((run) => memory.subarray(...bytesOf(run)))];
  const start = 4 * (HEADER + 2 * runs.length);
  const packed = new Uint8Array(start + parts.reduce((sum, { length }) => sum + length, 0));
  new Uint32Array(packed.buffer, 0, start / 4).set([FORMAT, snapshot.length, head, runs.length, ...runs.flat()]);
  let at = start;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  return packed;
}

/**
 * What Pyodide takes for the snapshot. It looks at the length, reads the head, and has all that follows copied into its memory,
 * 31 MB: of that only pages that are not empty are written to `memory()`. A page that is written takes room, one of zeros too.
 */
export function unpack(packed: Bytes, memory: () => Int8Array): Bytes {
  const [format, length, size, count] = new Uint32Array(
    packed.buffer,
    packed.byteOffset,
    HEADER,
  ) as unknown as number[];
  if (format !== FORMAT) throw new Error("another release made it");
  const start = 4 * (HEADER + 2 * count!);
  const runs = new Uint32Array(packed.buffer, packed.byteOffset + 4 * HEADER, 2 * count!);
  const head = packed.subarray(start, start + size!);
  const pages = runs.reduce((sum, value, i) => sum + (i % 2) * value, 0);
  if (head.length !== size || start + size + pages * PAGE !== packed.length) throw new Error("it is cut");
  const copy = (): [] => {
    const target = memory();
    let at = start + size;
    for (let i = 0; i < runs.length; i += 2) {
      const [first, end] = bytesOf([runs[i]!, runs[i + 1]!]);
      target.set(packed.subarray(at, (at += end - first)), first);
    }
    return [];
  };
  return Object.defineProperties(head, {
    length: { value: length },
    subarray: {
      value: (begin: number, end?: number) =>
        begin === size && end === undefined ? copy() : Uint8Array.prototype.subarray.call(head, begin, end),
    },
  });
}

function bytesOf([first, count]: [first: number, count: number]): [start: number, end: number] {
  return [first * PAGE, (first + count) * PAGE];
}

function isEmpty(page: Uint8Array): boolean {
  // By words: a call for each byte of 30 MB takes a while.
  for (const word of new Uint32Array(page.buffer, page.byteOffset, page.length / 4)) if (word !== 0) return false;
  return true;
}
