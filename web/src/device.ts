// Where the model runs: the encoder of the page, or sessions of onnxruntime-web on WASM, or on WebGPU where that was asked for
// and gives right answers.

import * as wasm from "onnxruntime-web/wasm";
import { Encoder } from "./encoder/encoder.ts";
import { fromFloat16 } from "./encoder/weights.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./files.ts";
import { padded } from "./ids.ts";
import type { Place } from "./place.ts";

type Runtime = Pick<typeof wasm, "InferenceSession" | "Tensor" | "env">;
export type DeviceName = "wasm" | "webgpu";

export type EngineName = "insitu" | "onnxruntime";

/** A batch: texts one after another. */
export interface Inputs {
  /** Tokens of each text. */
  lengths: Int32Array;
  /** The tokens, where the graph holds their rows itself; then the next two are empty. */
  ids?: Int32Array;
  /** int8, tokens x size, and a scale for each token. */
  rows: Uint8Array<ArrayBuffer>;
  scales: Float32Array<ArrayBuffer>;
  size: number;
  /** Components of a vector; `size` is the most. */
  dim: number;
}

/** Row i belongs to text i: unit vectors of `dim`, their codes, and those at full size. */
export interface Outputs {
  vectors: Float32Array;
  codes: Int8Array;
  scales: Float32Array;
  fullCodes: Int8Array;
  fullScales: Float32Array;
}

/** An opened model. `lost` rejects when the device is gone; `last`: there is no other one to turn to. */
export interface Device {
  name: DeviceName;
  engine: EngineName;
  threads: number;
  last: boolean;
  lost: Promise<never>;
  run(inputs: Inputs): Promise<Outputs>;
  close(): void;
}

/** An ONNX file, and the files beside it that hold weights of it, under the names that it knows. */
export interface Graph {
  bytes: Bytes;
  data: { path: string; data: Bytes }[];
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
/** Of a device that cannot be lost. */
const never = new Promise<never>(() => undefined);

/** Load the WASM runtime, with `threads` of it. Resolves when it stands. Code: `runtime-unavailable`. */
export async function startEngine(place: Place, threads: number): Promise<void> {
  configure(wasm, place, "ort/ort-wasm-simd-threaded", threads);
  try {
    const first = await wasm.InferenceSession.create(Uint8Array.from(atob(IDENTITY), (c) => c.charCodeAt(0)));
    await first.release();
  } catch (error) {
    throw new InsituError(
      "runtime-unavailable",
      `The ONNX runtime did not start (${(error as Error).message ?? error}). Check that ${place("ort/ort-wasm-simd-threaded.wasm")} is served.`,
    );
  }
}

/** The encoder of the page. Throws where it does not know the graph, or cannot run here. */
export async function openEncoder(
  place: Place,
  kernel: Promise<WebAssembly.Module>,
  graph: Bytes,
  threads: number,
): Promise<Device> {
  const encoder = await Encoder.open(graph, kernel, place, threads);
  return {
    name: "wasm",
    engine: "insitu",
    threads: encoder.threads,
    last: false,
    lost: never,
    run: async (inputs) => encoder.run(inputs),
    close: () => encoder.close(),
  };
}

/** onnxruntime-web on WASM. Code: `model-corrupt`. */
export async function openWasm(graph: Graph, threads: number): Promise<Device> {
  try {
    const session = await createSession(wasm, graph, "wasm");
    return sessionDevice("wasm", wasm, session, threads, never);
  } catch (error) {
    throw new InsituError(
      "model-corrupt",
      `The ONNX runtime refused the graph (${(error as Error).message ?? error}). Export the model again.`,
    );
  }
}

/** Throws an Error that says why not. */
export async function openWebGpu(place: Place, graph: Graph, threads: number): Promise<Device> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<object | null> } };
  if (!gpu) throw new Error("this browser or page has no WebGPU");
  if (!("Suspending" in WebAssembly)) throw new Error("this browser cannot suspend WebAssembly (JSPI)");
  if (!(await within(gpu.requestAdapter()))) throw new Error("there is no WebGPU adapter");
  const runtime = (await import(place("webgpu.js"))) as Runtime;
  configure(runtime, place, "webgpu/ort-wasm-simd-threaded.jspi", threads);
  const session = await within(createSession(runtime, graph, "webgpu"));
  const device = (await within(runtime.env.webgpu.device)) as unknown as { lost: Promise<{ message: string }> };
  const lost = device.lost.then(({ message }): never => {
    throw new Error(`the WebGPU device was lost: ${message}`);
  });
  lost.catch(() => undefined); // whoever runs a batch is told
  return sessionDevice("webgpu", runtime, session, threads, lost);
}

function createSession(runtime: Runtime, graph: Graph, device: DeviceName): Promise<wasm.InferenceSession> {
  return runtime.InferenceSession.create(graph.bytes, {
    executionProviders: [device],
    graphOptimizationLevel: "all",
    externalData: graph.data,
  });
}

function sessionDevice(
  name: DeviceName,
  runtime: Runtime,
  session: wasm.InferenceSession,
  threads: number,
  lost: Promise<never>,
): Device {
  return {
    name,
    engine: "onnxruntime",
    threads,
    last: name === "wasm",
    lost,
    async run(inputs) {
      const outputs = await session.run(feeds(runtime, inputs));
      const size = outputs["full_codes"]!.dims[1];
      if (size !== inputs.size) {
        throw new InsituError(
          "model-corrupt",
          `The graph makes vectors of ${size}, not ${inputs.size}. Correct full_dim in model.json and export it again.`,
        );
      }
      const data = <T>(name: string): T => outputs[name]!.data as T;
      return {
        vectors: data("embedding"),
        codes: data("codes"),
        scales: data("scale"),
        fullCodes: data("full_codes"),
        fullScales: data("full_scale"),
      };
    },
    close: () => void session.release().catch(() => undefined),
  };
}

/** The inputs of the graph (DESIGN.md, "An exported model"): texts padded to the longest. */
function feeds({ Tensor }: Runtime, inputs: Inputs): wasm.InferenceSession.FeedsType {
  const { lengths, size, dim } = inputs;
  const texts = lengths.length;
  const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
  const common = {
    lengths: new Tensor("int32", lengths, [texts]),
    dim: new Tensor("int64", BigInt64Array.of(BigInt(dim)), [1]),
  };
  if (inputs.ids)
    return { ids: new Tensor("int32", padded(inputs.ids, lengths, longest), [texts, longest]), ...common };
  let { rows, scales } = inputs;
  if (scales.length < texts * longest) {
    rows = new Uint8Array(texts * longest * size);
    scales = new Float32Array(texts * longest);
    let from = 0;
    lengths.forEach((length, text) => {
      rows.set(inputs.rows.subarray(from * size, (from + length) * size), text * longest * size);
      scales.set(inputs.scales.subarray(from, from + length), text * longest);
      from += length;
    });
  }
  return {
    rows: new Tensor("int8", new Int8Array(rows.buffer, rows.byteOffset, rows.length), [texts, longest, size]),
    row_scales: new Tensor("float32", scales, [texts, longest, 1]),
    ...common,
  };
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
  const golden = fromFloat16(new Uint16Array(bytes.buffer));
  const sum = golden.reduce((sum, value, i) => sum + value * vector[i]!, 0);
  return sum / Math.hypot(...golden);
}

function configure({ env }: Runtime, place: Place, name: string, threads: number): void {
  env.wasm.wasmPaths = { mjs: place(`${name}.mjs`), wasm: place(`${name}.wasm`) };
  env.wasm.numThreads = threads;
  env.logLevel = "error";
}
