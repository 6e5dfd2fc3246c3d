// Python in the worker: Pyodide from our own origin, with a library in which our code is compiled already.

import type { PyodideAPI } from "pyodide";
import type { PyProxy } from "pyodide/ffi";
import { InsituError } from "./errors.ts";
import type { Call, Host } from "./host.ts";
import type { Block } from "./block.ts";
import type { Bytes } from "./download.ts";
import type { Source } from "./exchange.ts";
import type { Place } from "./place.ts";
import type { EmbedArgs } from "./protocol.ts";
import { release } from "./release.ts";
import { Snapshot } from "./snapshot.ts";
import type { Store } from "./store.ts";

/** `assets.json`: what the build put beside this script. */
export interface Assets {
  /** SHA-256 over the files of the interpreter. */
  python: string;
  /** The header of Pyodide's lock file; its list of packages would lead to other origins. */
  lock: Record<string, string>;
  /** Bytes of the parts as they lie, for progress. */
  /** A hash of the encoder's kernel. */
  encoder: string;
  bytes: { python: number; engine: number; encoder: number };
}

/** `insitu.bridge`, whose calls end by `call`. */
export interface BridgeModule extends PyProxy {
  check(call: Call<undefined>, manifest: Uint8Array): void;
  start(call: Call<Bridge>, host: Host, lock: Uint8Array, manifest: Uint8Array | undefined): void;
}

export interface Bridge extends PyProxy {
  embed(call: Call<[Block, boolean[]]>, id: number, texts: string[], task: string, dim: EmbedArgs["dim"]): void;
  search(call: Call<string>, id: number, query: string, k: number): void;
  /** See `insitu.collection.calls`; arguments and result are JSON. */
  collection(call: Call<string>, id: number, name: string, act: string, given: string): void;
  export(call: Call<undefined>, id: number, name: string, write: (piece: Bytes) => void): void;
  restore(call: Call<undefined>, id: number, name: string, file: Source): void;
  cancel(id: number): void;
  readonly count: number;
  /** What `dim: "auto"` chose last, and why, or null: JSON. */
  readonly auto: string;
}

type Scripts = typeof import("pyodide");

/** A start from a snapshot takes less than a second; after so many milliseconds it is given up. */
const SNAPSHOT_LIMIT = 20_000;

/**
 * Start Python, from its snapshot if there is a good one, and import the bridge. `onStep` is told when a step is done.
 *
 * Without a snapshot it waits for `begun`: what else must be asked of the network is asked before the thread is busy.
 *
 * Code: `runtime-unavailable`.
 */
export async function startPython(
  place: Place,
  assets: Promise<Assets>,
  store: Promise<Store>,
  begun: Promise<void>,
  onStep: (step: string) => void,
): Promise<{ bridge: BridgeModule; snapshot: Snapshot }> {
  const wasm = place("pyodide/pyodide.asm.wasm");
  // Pyodide looks for names of its own in one folder, and a bundler's files have other names. It asks for one of them only, and
  // what follows a # does not reach the server.
  const folder = `${wasm}#/`;
  try {
    const scripts = Promise.all([import(place("pyodide/pyodide.mjs")), import(place("pyodide/pyodide.asm.mjs"))]);
    scripts.catch(() => undefined); // it is awaited below
    const snapshots = await store;
    const stored = snapshots.only(); // read while the name of the interpreter is on its way
    const { python, lock } = await assets;
    const snapshot = new Snapshot(snapshots, python);
    let module: { HEAP8: Int8Array } | undefined;
    const kept = await snapshot.take(await stored, () => module!.HEAP8);
    if (!kept) await begun;
    onStep("snapshot");
    const [{ loadPyodide }, { default: create }] = (await scripts) as [
      Scripts,
      { default: (settings: object) => never },
    ];
    onStep("pyodide scripts");
    const boot = (options: object): Promise<PyodideAPI> =>
      failing(
        loadPyodide({
          indexURL: folder,
          createPyodideModule: async (settings: object) => (module = await create(settings)),
          // The address changes with the content: a cache must not pair a new interpreter with an old library.
          stdLibURL: `${place("pyodide/python.zip")}?${python.slice(0, 16)}`,
          packageBaseUrl: folder,
          // An empty list of packages: nothing can be looked up anywhere.
          lockFileContents: { info: lock, packages: {} } as never,
          ...options,
        }),
      );
    let py: PyodideAPI | undefined;
    if (kept) {
      try {
        py = await within(SNAPSHOT_LIMIT, boot({ _loadSnapshot: kept }));
        snapshot.state = "used";
        release(kept); // Pyodide keeps it, and nobody reads it again
      } catch (error) {
        await snapshot.refuse(error);
      }
    }
    py ??= await boot({ _makeSnapshot: snapshot.wanted });
    onStep("pyodide");
    py.runPython("import insitu.bridge");
    onStep("insitu");
    if (snapshot.state !== "used" && snapshot.wanted) {
      // Now or never: what Python gets hold of from here on lives outside its memory.
      snapshot.made(py.makeMemorySnapshot() as Bytes);
      onStep("snapshot made");
    }
    return { bridge: py.pyimport("insitu.bridge") as BridgeModule, snapshot };
  } catch (error) {
    if (error instanceof InsituError) throw error;
    throw new InsituError(
      "runtime-unavailable",
      `Python did not start (${(error as Error).message ?? error}). Check that ${wasm} and the files beside it are served.`,
    );
  }
}

/** Pyodide waits for ever if its WASM does not start, and only warns; then this fails. */
async function failing<T>(boot: Promise<T>): Promise<T> {
  const { warn } = console;
  try {
    return await Promise.race([
      boot,
      new Promise<never>((_, reject) => {
        console.warn = (...words: unknown[]): void => {
          if (words[0] === "wasm instantiation failed!") reject(new Error("its WebAssembly did not start"));
          else warn(...words);
        };
      }),
    ]);
  } finally {
    console.warn = warn;
  }
}

async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not start within ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
