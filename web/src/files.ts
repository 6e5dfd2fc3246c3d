// Fetching: with progress in bytes, a check of size and SHA-256, an end for requests that stand still, and one retry.

import { InsituError, aborted } from "./errors.ts";
import type { Store } from "./store.ts";

/** A file with its size and hash, as an index or a model lock names it. */
export interface FileRef {
  file: string;
  bytes: number;
  sha256: string;
}

export type Bytes = Uint8Array<ArrayBuffer>;
export type OnBytes = (count: number) => void;

/** Milliseconds without a byte after which a request counts as lost. */
const STALL = 30_000;

/** SHA-256 can only be checked in secure contexts: https, and localhost. */
export const canVerify = globalThis.crypto?.subtle !== undefined;

/**
 * The body of `url`. `size`: its expected bytes, if known: a longer body ends the request. `onBytes` is called with the
 * size of each piece. Codes: `fetch-failed`, `aborted`.
 */
export async function fetchBytes(
  url: string,
  options: { size?: number; cache?: RequestCache; signal?: AbortSignal | undefined; onBytes?: OnBytes } = {},
): Promise<Bytes> {
  const stop = new AbortController();
  const onAbort = (): void => stop.abort();
  options.signal?.addEventListener("abort", onAbort);
  if (options.signal?.aborted) stop.abort();
  let timer = setTimeout(onAbort, STALL);
  try {
    const response = await fetch(url, { cache: options.cache ?? "default", signal: stop.signal });
    if (!response.ok || !response.body) {
      throw new InsituError("fetch-failed", `${url} answered ${response.status}. Check that the file is served.`);
    }
    const pieces: Bytes[] = [];
    let total = 0;
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      clearTimeout(timer);
      timer = setTimeout(onAbort, STALL);
      pieces.push(value as Bytes);
      total += value.length;
      options.onBytes?.(value.length);
      if (options.size !== undefined && total > options.size) {
        stop.abort();
        break;
      }
    }
    return join(pieces, total);
  } catch (error) {
    if (error instanceof InsituError) throw error;
    if (options.signal?.aborted) throw aborted();
    const cause = stop.signal.aborted ? `no byte came for ${STALL / 1000} s` : (error as Error).message;
    throw new InsituError("fetch-failed", `${url} could not be fetched (${cause}). Check the connection; load again.`);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

/**
 * One file below `base`, from the store or the network, its size and hash checked; what came from the network is stored.
 *
 * `code` names the error of a file that is another than the named one, after a second fetch past the HTTP cache.
 */
export async function load(
  ref: FileRef,
  base: string,
  code: "index-corrupt" | "model-corrupt",
  store: Store,
  options: { signal?: AbortSignal | undefined; onBytes?: OnBytes } = {},
): Promise<Bytes> {
  const stored = await store.get(ref.sha256);
  if (stored && (await matches(stored, ref))) {
    options.onBytes?.(stored.length);
    return stored;
  }
  const url = new URL(ref.file, base).href;
  let told = 0;
  const onBytes = (count: number): void => {
    told += count;
    options.onBytes?.(count);
  };
  for (const cache of ["default", "reload"] as const) {
    const bytes = await fetchBytes(url, { size: ref.bytes, cache, signal: options.signal, onBytes });
    if (await matches(bytes, ref)) {
      void store.put(ref.sha256, bytes);
      return bytes;
    }
    options.onBytes?.(-told);
    told = 0;
  }
  const remedy = code === "index-corrupt" ? "Index the site again" : "Export the model again";
  throw new InsituError(code, `${url} is not the file that was named: it is cut or was altered. ${remedy}.`);
}

async function matches(bytes: Bytes, ref: FileRef): Promise<boolean> {
  if (bytes.length !== ref.bytes) return false;
  if (!canVerify) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === ref.sha256;
}

function join(pieces: Bytes[], total: number): Bytes {
  if (pieces.length === 1) return pieces[0]!;
  const whole = new Uint8Array(total);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
