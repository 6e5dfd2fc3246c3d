// The model on onnxruntime-web's plain WASM build. The only module that imports onnxruntime.

import * as ort from "onnxruntime-web/wasm";
import type { Block } from "./block.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./files.ts";
import type { Rows } from "./rows.ts";

// One Identity node, made with the onnx package: a session of it loads the runtime while the model is still coming.
const IDENTITY = "CAg6NwoQCgFhEgFiIghJZGVudGl0eRIBZ1oPCgFhEgoKCAgBEgQKAggBYg8KAWISCgoICAESBAoCCAFCBAoAEA0=";

/** Load the runtime, with `threads` of it. Resolves when it stands. Code: `runtime-unavailable`. */
export async function startEngine(base: string, threads: number): Promise<void> {
  ort.env.wasm.wasmPaths = {
    mjs: new URL("ort/ort-wasm-simd-threaded.mjs", base).href,
    wasm: new URL("ort/ort-wasm-simd-threaded.wasm", base).href,
  };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  try {
    const first = await ort.InferenceSession.create(Uint8Array.from(atob(IDENTITY), (c) => c.charCodeAt(0)));
    await first.release();
  } catch (error) {
    throw new InsituError(
      "runtime-unavailable",
      `The ONNX runtime did not start (${(error as Error).message ?? error}). Check that ${base}ort/ is served.`,
    );
  }
}

export class Engine {
  #session: ort.InferenceSession;
  #rows: Rows;
  #dim: number;
  // Inputs of the largest batch so far, used again for each.
  #input = new Uint8Array(0);
  #inputScales = new Float32Array(0);
  /** Batches so far, and the milliseconds that the model ran. */
  readonly runs = { batches: 0, took: 0 };
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(session: ort.InferenceSession, rows: Rows, dim: number) {
    this.#session = session;
    this.#rows = rows;
    this.#dim = dim;
  }

  /** `graph`: an ONNX file; `dim`: components of a token row. Code: `model-corrupt`. */
  static async open(graph: Bytes, rows: Rows, dim: number): Promise<Engine> {
    try {
      const session = await ort.InferenceSession.create(graph, {
        executionProviders: ["wasm"],
        graphOptimizationLevel: "all",
      });
      return new Engine(session, rows, dim);
    } catch (error) {
      throw new InsituError(
        "model-corrupt",
        `The ONNX runtime refused the graph (${(error as Error).message ?? error}). Export the model again.`,
      );
    }
  }

  /**
   * Embed one batch: text i owns the next `lengths[i]` of `ids` and is written to row `positions[i]` of `block`.
   * Batches run one after another. Codes: `not-a-number`, and those of `Rows.load`.
   */
  async forward(ids: Int32Array, lengths: Int32Array, block: Block, positions: Int32Array): Promise<void> {
    // Outside the queue: a batch whose rows are slow to come holds up no other.
    const parts = await this.#rows.load(ids);
    const run = this.#turn.then(() => this.#run(this.#gather(ids, lengths, block.dim, parts), block, positions));
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #run(inputs: Record<string, ort.Tensor>, block: Block, positions: Int32Array): Promise<void> {
    const start = performance.now();
    const outputs = await this.#session.run(inputs);
    this.runs.batches++;
    this.runs.took += performance.now() - start;
    const data = (name: string): ort.Tensor.DataType => outputs[name]!.data;
    const vectors = data("embedding") as Float32Array;
    for (let i = 0; i < vectors.length; i++) {
      if (!Number.isFinite(vectors[i]!)) {
        throw new InsituError(
          "not-a-number",
          "The model gave values that are no numbers on WASM. Its file may be damaged: export it again.",
        );
      }
    }
    block.write(
      positions,
      vectors,
      data("codes") as Int8Array,
      data("scale") as Float32Array,
      data("full_codes") as Int8Array,
      data("full_scale") as Float32Array,
    );
  }

  #gather(
    ids: Int32Array,
    lengths: Int32Array,
    dim: number,
    parts: ReadonlyMap<number, Bytes>,
  ): Record<string, ort.Tensor> {
    const size = this.#dim;
    const { perPart, record } = this.#rows;
    const batch = lengths.length;
    const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
    const cells = batch * longest;
    if (this.#inputScales.length < cells) {
      this.#input = new Uint8Array(cells * size);
      this.#inputScales = new Float32Array(cells);
    }
    const input = this.#input.subarray(0, cells * size);
    const scales = this.#inputScales.subarray(0, cells);
    let next = 0;
    for (let text = 0; text < batch; text++) {
      let cell = text * longest;
      for (const end = cell + lengths[text]!; cell < end; cell++) {
        const id = ids[next++]!;
        const part = parts.get(Math.floor(id / perPart))!;
        const at = (id % perPart) * record;
        input.set(part.subarray(at, at + size), cell * size);
        scales[cell] = new DataView(part.buffer, part.byteOffset + at + size).getFloat32(0, true);
      }
      input.fill(0, cell * size, (text + 1) * longest * size);
      scales.fill(0, cell, (text + 1) * longest);
    }
    return {
      rows: new ort.Tensor("int8", new Int8Array(input.buffer, 0, input.length), [batch, longest, size]),
      row_scales: new ort.Tensor("float32", scales, [batch, longest, 1]),
      lengths: new ort.Tensor("int32", lengths, [batch]),
      dim: new ort.Tensor("int64", BigInt64Array.of(BigInt(dim)), [1]),
    };
  }
}
