// Python in the worker: Pyodide from our own origin, with a library in which our code is compiled already.

import type { PyodideAPI } from "pyodide";
import type { PyProxy } from "pyodide/ffi";
import { InsituError } from "./errors.ts";
import type { Call, Host } from "./host.ts";
import type { Block } from "./block.ts";

/** `assets.json`: what the build put beside this script. */
export interface Assets {
  /** SHA-256 over the files of the interpreter. */
  python: string;
  /** The header of Pyodide's lock file; its list of packages would lead to other origins. */
  lock: Record<string, string>;
  /** Bytes of the parts as they lie, for progress. */
  bytes: { python: number; engine: number };
}

/** `insitu.bridge`, whose calls end by `call`. */
export interface BridgeModule extends PyProxy {
  check(call: Call<undefined>, manifest: Uint8Array): void;
  start(call: Call<Bridge>, host: Host, lock: Uint8Array, manifest: Uint8Array | undefined): void;
}

export interface Bridge extends PyProxy {
  embed(call: Call<[Block, boolean[]]>, id: number, texts: string[], task: string, dim: number | undefined): void;
  search(call: Call<string>, id: number, query: string, k: number): void;
  cancel(id: number): void;
  readonly count: number;
}

/** Boot Python and import the bridge. `onStep` is told when a step is done. Code: `runtime-unavailable`. */
export async function startPython(
  base: string,
  assets: Promise<Assets>,
  onStep: (step: string) => void,
): Promise<BridgeModule> {
  const folder = new URL("pyodide/", base).href;
  try {
    const { loadPyodide } = (await import(`${folder}pyodide.mjs`)) as typeof import("pyodide");
    const { python } = await assets;
    const py: PyodideAPI = await loadPyodide({
      indexURL: folder,
      // The address changes with the content: a cache must not pair a new interpreter with an old library.
      stdLibURL: `${folder}python.zip?${python.slice(0, 16)}`,
      packageBaseUrl: folder,
      // An empty list of packages: nothing can be looked up anywhere.
      lockFileContents: assets.then(({ lock }) => ({ info: lock, packages: {} })) as never,
    });
    onStep("pyodide");
    const bridge = py.pyimport("insitu.bridge") as BridgeModule;
    onStep("insitu");
    return bridge;
  } catch (error) {
    if (error instanceof InsituError) throw error;
    throw new InsituError(
      "runtime-unavailable",
      `Python did not start (${(error as Error).message ?? error}). Check that ${folder} is served.`,
    );
  }
}
