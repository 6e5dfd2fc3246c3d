// The web half of `insitu.notebook`: the host of one model for a Pyodide of the user's own, in the thread that it runs in.

import { openEncoder, openWasm, startEngine } from "./device.ts";
import { Engine } from "./engine.ts";
import { InsituError } from "./errors.ts";
import { fetchBytes, load, type Bytes, type FileRef } from "./files.ts";
import { Host } from "./host.ts";
import { all, compile, hashes, isKnown, loadGraph, modelFiles, threadCount, trust, type Lock } from "./model.ts";
import { placeOf } from "./place.ts";
import type { Assets } from "./pyodide.ts";
import { openRows } from "./rows.ts";
import { Scanner } from "./scan.ts";
import { SIMD } from "./simd.ts";
import { Store } from "./store.ts";
import { readOtherTokenizer, readTokenizer } from "./tokenizer.ts";

export interface Opened {
  host: Host;
  /** The bytes of `model.lock.json`, and of the entry of the index if there is one. */
  lock: Bytes;
  index: Bytes | undefined;
}

/** The release of these files: that of the wheel must be the same. */
export const version: string = VERSION;

/**
 * `base`: URL of the folder with the files of the build. `model`: URL of a `model.lock.json`; empty, the one that the
 * entry at `index` names, else empty. `wanted`: threads, 0 for the usual number. Codes: `fetch-failed`, `model-corrupt`, `index-corrupt`, `model-not-found`, `runtime-unavailable`.
 */
export async function openHost(base: string, model: string, index: string, wanted: number): Promise<Opened> {
  const place = placeOf(base, undefined);
  // A page may not sleep, as helpers and who waits for them do. A worker may have a `document`: PyScript lends it the page's.
  const threads = "WorkerGlobalScope" in globalThis ? threadCount(wanted || undefined) : 1;
  const assets = fetchBytes(place("assets.json"), { cache: "no-cache" }).then(
    (bytes) => read(bytes, place("assets.json"), "runtime-unavailable") as Assets,
  );
  assets.catch(() => undefined); // it is awaited where it is needed
  const entry = index === "" ? undefined : await fetchBytes(index, { cache: "no-cache" });
  const named = entry && (read(entry, index, "index-corrupt") as { model?: string }).model;
  const lockUrl = model || (named ? new URL(named, index).href : undefined);
  if (lockUrl === undefined) {
    throw new InsituError("model-not-found", "The index names no model. Name one, or index the site again.");
  }
  const lockBytes = await fetchBytes(lockUrl, { cache: "no-cache" });
  const lock = read(lockBytes, lockUrl, "model-corrupt") as Lock;
  const store = await Store.open("insitu-files");
  void store.claim(lockUrl, hashes(modelFiles(lock)));
  const file = (ref: FileRef): Promise<Bytes> => load(ref, lockUrl, "model-corrupt", store);
  const onnx = async (): Promise<void> => startEngine(place, threads);
  const { tokenizer, rows, scanner } = await all({
    tokenizer: lock.vocabulary
      ? readTokenizer(file(lock.vocabulary), place)
      : file(lock.tokenizer).then((bytes) => readOtherTokenizer(bytes, place)),
    rows: openRows({
      table: lock,
      base: lockUrl,
      mode: undefined,
      usual: index === "" ? "all" : "stream",
      owner: index || lockUrl,
      store,
      expect: () => undefined,
      onBytes: () => undefined,
    }),
    scanner: Scanner.open(place),
  });
  const engine = await Engine.open(await loadGraph(lock, file), {
    rows,
    dim: lock.full_dim,
    canaries: lock.canary ?? [],
    first: isKnown(lock)
      ? (graph) => openEncoder(place, compile(place(`encoder.${SIMD}.wasm`)), graph.bytes, threads)
      : undefined,
    trusted: trust(store, lock, assets),
    last: (graph) => onnx().then(() => openWasm(graph, threads)),
    again: () => loadGraph(lock, file),
  });
  void rows.fetchAhead(Int32Array.from(engine.unproven)).then(() => engine.prove());
  const host = new Host(tokenizer, engine, scanner, store, lock.full_dim, index || lockUrl, new Map(), place);
  return { host, lock: lockBytes, index: entry };
}

/** JSON; servers of single-page applications answer with a page where there is no file. */
function read(bytes: Bytes, url: string, code: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new InsituError(code, `${url} is no JSON, perhaps a page in the place of a file that is not there.`);
  }
}
