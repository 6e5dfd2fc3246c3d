// Files of an index or a model: from the store or the network, checked by size and SHA-256. What was cut goes on where it
// was, in this visit or the next; tabs that want the same file load it once.

import { canVerify, download, fetchBytes, OtherFile, sha256, type Bytes } from "./download.ts";
import { InsituError } from "./errors.ts";
import { release } from "./release.ts";
import type { Store } from "./store.ts";

export { canVerify, fetchBytes, type Bytes };
export type OnBytes = (count: number) => void;

/** A file with its size and hash, as an index or a model lock names it. */
export interface FileRef {
  file: string;
  bytes: number;
  sha256: string;
}

export interface LoadOptions {
  signal?: AbortSignal | undefined;
  /** Told how many bytes more are there; fewer, by a negative count, when a download begins again. */
  onBytes?: OnBytes;
}

/** A file is stored in pieces of so many bytes, as they come: a download that ends early has lost less than one. */
const PIECE = 4 << 20;
/** How often a tab that waits for another one looks how far that is, in milliseconds. */
const LOOK = 1000;

/**
 * One file below `base`, its size and hash checked; what comes from the network is stored.
 *
 * `code` names the error of a file that is another than the named one, after a second download past the HTTP cache. Other
 * codes: `fetch-failed`, `aborted`.
 */
export async function load(
  ref: FileRef,
  base: string,
  code: "index-corrupt" | "model-corrupt",
  store: Store,
  options: LoadOptions = {},
): Promise<Bytes> {
  const file = new StoredFile(ref, store, options);
  await file.take();
  if (file.complete) {
    if (await file.right()) {
      store.hits++;
      return file.whole;
    }
    await file.drop();
  }
  store.misses++;
  const url = new URL(ref.file, base).href;
  return alone(file, async () => {
    // Another tab may have loaded it meanwhile, or a part of it.
    await file.take();
    for (const cache of ["default", "reload"] as const) {
      const came = file.complete || (await file.download(url, cache));
      if (came && (await file.right())) return file.whole;
      await file.drop();
    }
    const remedy = code === "index-corrupt" ? "Index the site again" : "Export the model again";
    throw new InsituError(code, `${url} is not the file that was named: it is cut or was altered. ${remedy}.`);
  });
}

/** Whether all of a file is stored. It is not read, so it may still turn out to be damaged. */
export async function isStored(ref: FileRef, store: Store): Promise<boolean> {
  return (await Promise.all(pieces(ref).map((i) => store.has(key(ref, i))))).every(Boolean);
}

/** `work` under the lock of the file, so that another tab waits for it and then finds what it stored. */
async function alone(file: StoredFile, work: () => Promise<Bytes>): Promise<Bytes> {
  if (!navigator.locks || !file.store.works) return work();
  let looking = Promise.resolve();
  const look = setInterval(() => (looking = file.take()), LOOK);
  return new Promise((resolve, reject) => {
    const { signal } = file.options;
    const holding = async (): Promise<void> => {
      clearInterval(look);
      await looking;
      await work().then(resolve, reject);
      await file.storing; // then the next one finds all of it
    };
    navigator.locks
      .request(`insitu file ${file.ref.sha256}`, signal ? { signal } : {}, holding)
      .catch(reject)
      .finally(() => clearInterval(look));
  });
}

/** A file on its way into memory, and into the store. */
class StoredFile {
  readonly whole: Bytes;
  /** Resolves when all pieces so far are stored. */
  storing: Promise<unknown> = Promise.resolve();
  #at = 0;
  #etag = "";
  #told = 0;
  #proven = false;

  constructor(
    readonly ref: FileRef,
    readonly store: Store,
    readonly options: LoadOptions,
  ) {
    this.whole = new Uint8Array(ref.bytes);
  }

  /** Its presence in the store says that the pieces, as they were put, had the right hash. */
  get #proof(): string {
    return `${this.ref.sha256}/right`;
  }

  get complete(): boolean {
    return this.#at === this.ref.bytes;
  }

  /** Read what the store has, as far as it has no gap. */
  async take(): Promise<void> {
    if (this.complete) return;
    const { ref, whole } = this;
    const first = Math.floor(this.#at / PIECE);
    const etags = await Promise.all(
      pieces(ref)
        .slice(first)
        .map(async (i) => {
          const piece = await this.store.get(key(ref, i));
          const size = Math.min(PIECE, ref.bytes - i * PIECE);
          if (piece?.bytes.length !== size) return undefined;
          whole.set(piece.bytes, i * PIECE);
          release(piece.bytes);
          return piece.note;
        }),
    );
    const proven = await this.store.has(this.#proof);
    const gap = etags.indexOf(undefined);
    const count = gap < 0 ? etags.length : gap;
    // What is fetched now must be looked at again.
    this.#proven = proven && gap < 0 && first === 0;
    if (count > 0) this.#etag = etags[count - 1]!;
    this.#tell(Math.min(ref.bytes, (first + count) * PIECE));
  }

  /** Fetch what is missing, and store it piece by piece. False if the server has a file of another length. */
  async download(url: string, cache: RequestCache): Promise<boolean> {
    const { ref, whole, store } = this;
    let next = Math.floor(this.#at / PIECE);
    const onBytes = (at: number, etag: string): void => {
      if (at < this.#at) next = 0;
      for (let end; at >= (end = Math.min(ref.bytes, (next + 1) * PIECE)) && next * PIECE < ref.bytes; next++) {
        const put = store.put(key(ref, next), whole.subarray(next * PIECE, end), etag);
        this.storing = this.storing.then(() => put);
      }
      this.#tell(at);
    };
    try {
      const { signal } = this.options;
      await download(url, whole, { from: this.#at, etag: this.#etag, cache, signal, onBytes });
      return true;
    } catch (error) {
      if (error instanceof OtherFile) return false;
      throw error;
    }
  }

  /** Whether the bytes are those of the file that was named. It is found out once, when they were downloaded. */
  async right(): Promise<boolean> {
    if (!canVerify || this.#proven) return true;
    if ((await sha256(this.whole)) !== this.ref.sha256) return false;
    this.#proven = true;
    const put = this.store.put(this.#proof, new Uint8Array());
    this.storing = this.storing.then(() => put);
    return true;
  }

  async drop(): Promise<void> {
    await this.storing;
    await this.store.drop(this.ref.sha256);
    this.#etag = "";
    this.#proven = false;
    this.#tell(0);
  }

  #tell(at: number): void {
    this.options.onBytes?.(at - this.#told);
    this.#told = this.#at = at;
  }
}

function pieces(ref: FileRef): number[] {
  return Array.from({ length: Math.ceil(ref.bytes / PIECE) }, (_, i) => i);
}

function key(ref: FileRef, piece: number): string {
  return `${ref.sha256}/${piece}`;
}
