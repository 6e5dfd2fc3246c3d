// Where the model runs: sessions of onnxruntime-web on WASM, or on WebGPU where that was asked for and gives right answers.

import * as wasm from "onnxruntime-web/wasm";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./files.ts";

type Runtime = Pick<typeof wasm, "InferenceSession" | "Tensor" | "env">;
export type DeviceName = "wasm" | "webgpu";

/** A session, with the runtime whose tensors it takes. `lost` rejects when the device is gone. */
export interface Device {
  name: DeviceName;
  runtime: Runtime;
  session: wasm.InferenceSession;
  lost: Promise<never>;
}

/** A file beside the graph that holds weights, under the name that the graph knows. */
export interface DataFile {
  path: string;
  data: Bytes;
}

/** A golden text: its token ids, and its unit vector at full size as float16, little-endian, base64. */
export interface Canary {
  ids: number[];
  embedding: string;
}

// One Identity node, made with the onnx package: a session of it loads the runtime while the model is still coming.
const IDENTITY = "CAg6NwoQCgFhEgFiIghJZGVudGl0eRIBZ1oPCgFhEgoKCAgBEgQKAggBYg8KAWISCgoICAESBAoCCAFCBAoAEA0=";
/** Milliseconds after which a GPU that is being opened, or that runs a batch, counts as lost. */
const PATIENCE = 60_000;

/** Load the WASM runtime, with `threads` of it. Resolves when it stands. Code: `runtime-unavailable`. */
export async function startEngine(base: string, threads: number): Promise<void> {
  configure(wasm, new URL("ort/ort-wasm-simd-threaded", base).href, threads);
  try {
    const first = await wasm.InferenceSession.create(Uint8Array.from(atob(IDENTITY), (c) => c.charCodeAt(0)));
    await first.release();
  } catch (error) {
    throw new InsituError(
      "runtime-unavailable",
      `The ONNX runtime did not start (${(error as Error).message ?? error}). Check that ${base}ort/ is served.`,
    );
  }
}

/** Code: `model-corrupt`. */
export async function openWasm(graph: Bytes, externalData: DataFile[]): Promise<Device> {
  try {
    const session = await wasm.InferenceSession.create(graph, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      externalData,
    });
    return { name: "wasm", runtime: wasm, session, lost: new Promise(() => undefined) };
  } catch (error) {
    throw new InsituError(
      "model-corrupt",
      `The ONNX runtime refused the graph (${(error as Error).message ?? error}). Export the model again.`,
    );
  }
}

/** Throws an Error that says why not. */
export async function openWebGpu(
  base: string,
  graph: Bytes,
  externalData: DataFile[],
  threads: number,
): Promise<Device> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<object | null> } };
  if (!gpu) throw new Error("this browser or page has no WebGPU");
  if (!("Suspending" in WebAssembly)) throw new Error("this browser cannot suspend WebAssembly (JSPI)");
  if (!(await within(gpu.requestAdapter()))) throw new Error("there is no WebGPU adapter");
  const runtime = (await import(new URL("webgpu.js", base).href)) as Runtime;
  configure(runtime, new URL("webgpu/ort-wasm-simd-threaded.jspi", base).href, threads);
  const options = { executionProviders: ["webgpu"], graphOptimizationLevel: "all" as const, externalData };
  const session = await within(runtime.InferenceSession.create(graph, options));
  const device = (await within(runtime.env.webgpu.device)) as unknown as { lost: Promise<{ message: string }> };
  const lost = device.lost.then(({ message }): never => {
    throw new Error(`the WebGPU device was lost: ${message}`);
  });
  lost.catch(() => undefined); // whoever runs a batch is told
  return { name: "webgpu", runtime, session, lost };
}

/** `work`, unless it takes longer than anybody would wait. */
export async function within<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`WebGPU gave no answer for ${PATIENCE / 1000} s`);
    timer = setTimeout(() => reject(error), PATIENCE);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** The cosine of a unit vector to the canary's. */
export function cosine(vector: Float32Array, canary: Canary): number {
  const bytes = Uint8Array.from(atob(canary.embedding), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  let sum = 0;
  let square = 0;
  for (let i = 0; 2 * i < bytes.length; i++) {
    const bits = view.getUint16(2 * i, true);
    const exponent = (bits >> 10) & 31;
    const fraction = (bits & 1023) / 1024;
    const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
    const value = bits >> 15 ? -size : size;
    sum += value * vector[i]!;
    square += value * value;
  }
  return sum / Math.sqrt(square);
}

function configure({ env }: Runtime, path: string, threads: number): void {
  env.wasm.wasmPaths = { mjs: `${path}.mjs`, wasm: `${path}.wasm` };
  env.wasm.numThreads = threads;
  env.logLevel = "error";
}
