// Python in the worker: Pyodide from our own origin, our wheel installed in it by micropip.

import type { PyodideAPI } from "pyodide";
import type { PyProxy } from "pyodide/ffi";
import { InsituError } from "./errors.ts";
import type { Call, Host } from "./host.ts";
import type { Block } from "./block.ts";

/** `assets.json`: what the build put beside this script. */
export interface Assets {
  /** Wheels to install, below `wheels/`: micropip's own first, ours last. */
  wheels: { micropip: string[]; insitu: string };
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
    const py: PyodideAPI = await loadPyodide({
      indexURL: folder,
      packageBaseUrl: new URL("wheels/", base).href,
      // An empty list of packages: nothing can be looked up anywhere.
      lockFileContents: assets.then(({ lock }) => ({ info: lock, packages: {} })) as never,
    });
    onStep("pyodide");
    const { wheels } = await assets;
    const url = (wheel: string): string => new URL(`wheels/${wheel}`, base).href;
    await py.loadPackage(wheels.micropip.map(url), { checkIntegrity: false, messageCallback: () => undefined });
    const micropip = py.pyimport("micropip") as PyProxy & {
      install: PyProxy & { callKwargs(...args: unknown[]): Promise<void> };
    };
    // The wheel needs nothing in the page; without deps micropip asks no index.
    await micropip.install.callKwargs(url(wheels.insitu), { deps: false });
    micropip.destroy();
    onStep("wheel");
    const bridge = py.pyimport("insitu.bridge") as BridgeModule;
    onStep("insitu");
    return bridge;
  } catch (error) {
    if (error instanceof InsituError) throw error;
    throw new InsituError(
      "runtime-unavailable",
      `Python did not start (${(error as Error).message ?? error}). Check that ${folder} and ${base}wheels/ are served.`,
    );
  }
}
