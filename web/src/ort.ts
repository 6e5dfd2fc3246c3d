// The model: batches of token rows through a session of onnxruntime-web.

import type { Tensor } from "onnxruntime-web/wasm";
import type { Block } from "./block.ts";
import { cosine, openWasm, within, type Canary, type DataFile, type Device, type DeviceName } from "./device.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./files.ts";
import { padded } from "./ids.ts";
import type { Rows } from "./rows.ts";

/** The least cosine of a canary to its golden vector; an int8 graph reaches 0.99, a wrong kernel comes nowhere near. */
const CANARY = 0.9;

/** The ONNX file, and the files beside it that hold weights of its. */
export interface Graph {
  graph: Bytes;
  data: DataFile[];
}

export interface EngineOptions extends Graph {
  rows: Rows;
  /** Components of a token row, and of the largest vector. */
  dim: number;
  canaries: Canary[];
  /** Opens the device that was asked for, unless that is WASM. */
  other?: ((graph: Bytes, data: DataFile[]) => Promise<Device>) | undefined;
  /** Resolves when the WASM runtime stands. */
  startWasm(): Promise<void>;
  /** The graph once more: for WASM, when the other device fails later. */
  again(): Promise<Graph>;
}

type Input = { type: "int8" | "float32" | "int32" | "int64"; data: Tensor.DataType; dims: number[] };

export class Engine {
  #device: Device;
  #options: EngineOptions;
  #rows: Rows;
  #dim: number;
  // Inputs of the largest batch so far, used again for each.
  #input = new Uint8Array(0);
  #inputScales = new Float32Array(0);
  /** Batches so far, and the milliseconds that the model ran. */
  readonly runs = { batches: 0, took: 0 };
  #turn: Promise<unknown> = Promise.resolve();

  /** Where batches run, and why not where it was asked for. */
  readonly device: { used: DeviceName; reason: string };

  private constructor(device: Device, options: EngineOptions) {
    this.#device = device;
    this.#options = options;
    this.#rows = options.rows;
    this.#dim = options.dim;
    this.device = { used: device.name, reason: "" };
  }

  /** Another device than WASM is used only after its canaries gave their golden vectors. Code: `model-corrupt`. */
  static async open(options: EngineOptions): Promise<Engine> {
    let reason = "";
    if (options.other) {
      try {
        const engine = new Engine(await options.other(options.graph, options.data), options);
        await engine.#sing();
        options.data.length = 0;
        return engine;
      } catch (error) {
        reason = message(error);
      }
    }
    await options.startWasm();
    const { graph, data } = reason ? await options.again() : options;
    const engine = new Engine(await openWasm(graph, data), options);
    options.data.length = 0; // the session has its own copy, and `again` loads them anew
    engine.device.reason = reason;
    return engine;
  }

  /** Throws unless the device gives the golden vectors. */
  async #sing(): Promise<void> {
    const { canaries } = this.#options;
    if (!canaries.length) throw new Error("the model names no golden vectors to try the device with");
    for (const canary of canaries) {
      const ids = Int32Array.from(canary.ids);
      const parts = await this.#rows.load(ids);
      const inputs = this.#gather(ids, Int32Array.of(ids.length), this.#dim, parts);
      const found = cosine((await this.#ask(inputs))["embedding"]!.data as Float32Array, canary);
      if (!(found >= CANARY)) throw new Error(`a golden text has a cosine of ${found.toFixed(3)} there`);
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

  async #run(inputs: Record<string, Input>, block: Block, positions: Int32Array): Promise<void> {
    const start = performance.now();
    let outputs: Record<string, Tensor>;
    try {
      outputs = await this.#ask(inputs);
    } catch (error) {
      if (this.device.used === "wasm") throw error;
      // The batch is finished on WASM, and all later ones are run there.
      await this.#options.startWasm();
      const { session } = this.#device;
      const { graph, data } = await this.#options.again();
      this.#device = await openWasm(graph, data);
      session.release().catch(() => undefined);
      Object.assign(this.device, { used: "wasm", reason: message(error) });
      outputs = await this.#ask(inputs);
    }
    this.runs.batches++;
    this.runs.took += performance.now() - start;
    const data = (name: string): Tensor.DataType => outputs[name]!.data;
    const vectors = data("embedding") as Float32Array;
    const size = outputs["full_codes"]!.dims[1];
    if (size !== this.#dim) {
      throw new InsituError(
        "model-corrupt",
        `The graph makes vectors of ${size}, not ${this.#dim}. Correct full_dim in model.json and export it again.`,
      );
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

  async #ask(inputs: Record<string, Input>): Promise<Record<string, Tensor>> {
    const { name, runtime, session, lost } = this.#device;
    const tensors = Object.entries(inputs).map(([name, { type, data, dims }]) => {
      return [name, new runtime.Tensor(type, data as never, dims)] as const;
    });
    const running = session.run(Object.fromEntries(tensors));
    const outputs = await (name === "wasm" ? running : within(Promise.race([running, lost])));
    for (const value of outputs["embedding"]!.data as Float32Array) {
      if (Number.isFinite(value)) continue;
      throw new InsituError(
        "not-a-number",
        `The model gave values that are no numbers on ${name}. Its file may be damaged: export it again.`,
      );
    }
    return outputs as Record<string, Tensor>;
  }

  #gather(ids: Int32Array, lengths: Int32Array, dim: number, parts: ReadonlyMap<number, Bytes>): Record<string, Input> {
    const size = this.#dim;
    const { perPart, record } = this.#rows;
    const batch = lengths.length;
    const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
    const cells = batch * longest;
    const common: Record<string, Input> = {
      lengths: { type: "int32", data: lengths, dims: [batch] },
      dim: { type: "int64", data: BigInt64Array.of(BigInt(dim)), dims: [1] },
    };
    if (!record) {
      return { ids: { type: "int32", data: padded(ids, lengths, longest), dims: [batch, longest] }, ...common };
    }
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
      rows: { type: "int8", data: new Int8Array(input.buffer, 0, input.length), dims: [batch, longest, size] },
      row_scales: { type: "float32", data: scales, dims: [batch, longest, 1] },
      ...common,
    };
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
