// transformers.js as its users have it: the feature-extraction pipeline, mean pooling, unit vectors. See rival.py.
import { env, pipeline } from "@huggingface/transformers";

const POOLED = { pooling: "mean", normalize: true };
let extract;

/** Load model and runtime from our own origin. `build`: '.asyncify' is its own default, '' the plain WASM build. */
async function open({ threads, build, model, base }) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  // A path, not a URL: by a URL it looks for a model on the hub only.
  env.localModelPath = `${new URL(base).pathname}/models/`;
  const wasm = env.backends.onnx.wasm;
  wasm.numThreads = threads;
  const file = new URL(`${base}/ort-wasm-simd-threaded${build}`, location.href).href;
  wasm.wasmPaths = { mjs: `${file}.mjs`, wasm: `${file}.wasm` };
  extract = await pipeline("feature-extraction", model, { device: "wasm", dtype: "q8" });
  return { transformers: env.version, onnxruntime: env.backends.onnx.versions.web };
}

/** Milliseconds for each text, embedded alone. */
async function each(texts) {
  const times = [];
  for (const text of texts) {
    const start = performance.now();
    await extract(text, POOLED);
    times.push(performance.now() - start);
  }
  return times;
}

/** Milliseconds for all texts in batches of `size`, in the order given, as a list of batches is usually written. */
async function bulk(texts, size) {
  const start = performance.now();
  for (let at = 0; at < texts.length; at += size) await extract(texts.slice(at, at + size), POOLED);
  return performance.now() - start;
}

/** The vectors themselves, to see that they are right. */
async function vectors(texts) {
  return (await extract(texts, POOLED)).tolist();
}

globalThis.bench = { open, each, bulk, vectors };
