// A snapshot of the interpreter's memory, made on the first visit: the next one starts from it instead of from nothing.

import type { Bytes } from "./download.ts";
import { release } from "./release.ts";
import type { Store } from "./store.ts";

const PAGE = 1 << 16;

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

  /** The stored snapshot, if there is one and it is whole. `stored`: what was read while its name was not known yet. */
  async take(stored: Awaited<ReturnType<Store["only"]>>): Promise<Bytes | undefined> {
    const found = stored?.key === this.#key ? stored.piece : await this.store.get(this.#key);
    if (!found) return undefined;
    try {
      return unpack(found.bytes);
    } catch (error) {
      return this.refuse(error);
    } finally {
      release(found.bytes);
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

/** Length, number of pages that are not empty, their numbers (uint32 each), then those pages, of 64 kB. */
export function pack(memory: Uint8Array): Bytes {
  const full: number[] = [];
  for (let page = 0; page * PAGE < memory.length; page++) if (!isEmpty(pageOf(memory, page))) full.push(page);
  const size = full.reduce((sum, page) => sum + pageOf(memory, page).length, 0);
  const packed = new Uint8Array(4 * (2 + full.length) + size);
  new Uint32Array(packed.buffer, 0, 2 + full.length).set([memory.length, full.length, ...full]);
  let at = 4 * (2 + full.length);
  for (const page of full) {
    packed.set(pageOf(memory, page), at);
    at += pageOf(memory, page).length;
  }
  return packed;
}

export function unpack(packed: Bytes): Bytes {
  const [length, count] = new Uint32Array(packed.buffer, packed.byteOffset, 2) as unknown as [number, number];
  const memory = new Uint8Array(length);
  let at = 4 * (2 + count);
  for (const page of new Uint32Array(packed.buffer, packed.byteOffset + 8, count)) {
    const target = pageOf(memory, page);
    target.set(packed.subarray(at, at + target.length));
    at += target.length;
  }
  if (at !== packed.length) throw new Error("it is cut");
  return memory;
}

function pageOf(memory: Uint8Array, page: number): Uint8Array {
  return memory.subarray(page * PAGE, (page + 1) * PAGE);
}

function isEmpty(page: Uint8Array): boolean {
  // By words: a call for each byte of 30 MB takes a while. The last page may end between two words; then it counts as full.
  if (page.byteOffset % 4 !== 0 || page.length % 4 !== 0) return false;
  for (const word of new Uint32Array(page.buffer, page.byteOffset, page.length / 4)) if (word !== 0) return false;
  return true;
}
