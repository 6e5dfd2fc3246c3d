// Fetching: progress in bytes, an end for requests that stand still, resumption of what was cut.

import { InsituError, aborted } from "./errors.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** Milliseconds without a byte after which a request counts as lost. */
const STALL = 30_000;
/** Milliseconds to wait after each request in a row that brought nothing; the one after the last of them is the last. */
const PAUSES = [300, 1000, 3000];

/** SHA-256 can only be checked in secure contexts: https, and localhost. */
export const canVerify = globalThis.crypto?.subtle !== undefined;

/** As hex digits. */
export async function sha256(bytes: Bytes): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The server has another file than the one that was named. */
export class OtherFile extends Error {}

class Refused extends Error {
  constructor(readonly status: number) {
    super(`the server answered ${status}`);
  }
}

/** The body of `url`, in one request. Codes: `fetch-failed`, `aborted`. */
export async function fetchBytes(
  url: string,
  options: { cache?: RequestCache; signal?: AbortSignal | undefined } = {},
): Promise<Bytes> {
  const watch = new Watch(options.signal);
  try {
    const response = await fetch(url, { cache: options.cache ?? "default", signal: watch.signal });
    const pieces: Bytes[] = [];
    for await (const piece of watch.body(response)) pieces.push(piece);
    return new Uint8Array(await new Blob(pieces).arrayBuffer());
  } catch (error) {
    throw watch.named(error, url);
  } finally {
    watch.end();
  }
}

/** A kernel, compiled when it is here: its errors are those of `fetchBytes`. */
export async function fetchModule(url: string): Promise<WebAssembly.Module> {
  return WebAssembly.compile(await fetchBytes(url));
}

export interface DownloadOptions {
  /** Byte of `whole` to go on at, and the strong ETag of what is there already; empty if it had none. */
  from: number;
  etag: string;
  cache: RequestCache;
  signal: AbortSignal | undefined;
  /** Told after each piece that was written, and when all begins again at 0: where `whole` ends now, and its ETag. */
  onBytes(at: number, etag: string): void;
}

/**
 * Fill `whole` with the body of `url`, in as many requests as it takes. Whether the bytes are right is the caller's to check.
 *
 * Codes: `fetch-failed`, `aborted`. Throws `OtherFile` if the server has a file of another length.
 */
export async function download(url: string, whole: Bytes, options: DownloadOptions): Promise<void> {
  const { cache, signal, onBytes } = options;
  let { from: at, etag } = options;
  for (let failures = 0; ;) {
    const before = at;
    const watch = new Watch(signal);
    try {
      const response = await fetch(url, { cache, signal: watch.signal, headers: rangeOf(url, at, etag) });
      const start = response.status === 206 ? startOf(response) : 0;
      if (response.status === 416 || (start !== at && start !== 0)) throw new OtherFile();
      etag = strong(response.headers.get("etag"));
      // No ranges here, or the file has changed: the server sends all of it.
      if (start !== at && response.ok) onBytes((at = 0), etag);
      for await (const piece of watch.body(response)) {
        if (at + piece.length > whole.length) throw new OtherFile();
        whole.set(piece, at);
        at += piece.length;
        onBytes(at, etag);
      }
      if (at < whole.length) throw new OtherFile();
      return;
    } catch (error) {
      if (error instanceof OtherFile) throw error;
      const final = error instanceof Refused && error.status < 500 && error.status !== 429;
      if (at > before) failures = 0;
      else if (final || signal?.aborted || failures === PAUSES.length) throw watch.named(error, url);
      else await new Promise((resolve) => setTimeout(resolve, PAUSES[failures++]));
    } finally {
      watch.end();
    }
  }
}

/** The request for what comes from byte `at` on, unless the file has changed: then for all of it (RFC 9110, 13.1.5). */
function rangeOf(url: string, at: number, etag: string): Record<string, string> {
  // Without an ETag only a hash can tell whether both halves are of one file.
  if (at === 0 || (etag === "" && !canVerify)) return {};
  // To another origin If-Range would need its consent.
  const same = etag !== "" && new URL(url).origin === location.origin;
  return { Range: `bytes=${at}-`, ...(same ? { "If-Range": etag } : {}) };
}

function startOf(response: Response): number {
  // A server of another origin may hide the header; what it sends is what was asked for then, or the hash will tell.
  return Number(/^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1] ?? Number.NaN);
}

function strong(etag: string | null): string {
  return etag === null || etag.startsWith("W/") ? "" : etag;
}

/** Ends one request: by the caller's signal, or when no byte comes any more. */
class Watch {
  #stop = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #onAbort = (): void => this.#stop.abort();

  constructor(private readonly outer: AbortSignal | undefined) {
    outer?.addEventListener("abort", this.#onAbort);
    if (outer?.aborted) this.#stop.abort();
    this.#restart();
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** The pieces of a body, as they come. */
  async *body(response: Response): AsyncGenerator<Bytes> {
    if (!response.ok || !response.body) throw new Refused(response.status);
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        this.#restart();
        yield value as Bytes;
      }
    } finally {
      reader.cancel().catch(() => undefined); // it may have failed already
    }
  }

  named(error: unknown, url: string): Error {
    if (error instanceof InsituError) return error;
    if (this.outer?.aborted) return aborted();
    const cause = this.#stop.signal.aborted ? `no byte came for ${STALL / 1000} s` : (error as Error).message;
    return new InsituError("fetch-failed", `${url} could not be fetched (${cause}). Check the connection; load again.`);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.outer?.removeEventListener("abort", this.#onAbort);
  }

  #restart(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onAbort, STALL);
  }
}
