// The model: batches of token rows through a device, one after another; which device that is.

import type { Block } from "./block.ts";
import {
  cosine,
  within,
  type Canary,
  type Device,
  type DeviceName,
  type EngineName,
  type Graph,
  type Inputs,
  type Outputs,
} from "./device.ts";
import { InsituError } from "./errors.ts";
import type { Bytes } from "./files.ts";
import { readRow } from "./row_codes.ts";
import { release } from "./release.ts";
import type { Rows } from "./rows.ts";

/** The least cosine of a canary to its golden vector; an int8 graph reaches 0.99, a wrong kernel comes nowhere near. */
const CANARY = 0.9;
/** Milliseconds without a call after which the canaries of a remembered device run; so many after which they run between calls. */
const IDLE = 1000;
const LATEST = 10_000;

export interface EngineOptions {
  rows: Rows;
  /** Components of a token row, and of the largest vector. */
  dim: number;
  canaries: Canary[];
  /** Opens the device that is tried first; undefined where that is onnxruntime's. */
  first?: ((graph: Graph) => Promise<Device>) | undefined;
  /** Whether the canaries came out right on the first device before, on this graph and in this browser. */
  trusted?: Trust | undefined;
  /** Opens onnxruntime-web's WASM device. */
  last(graph: Graph): Promise<Device>;
  /** The graph once more: for WASM, when the other device fails later. */
  again(): Promise<Graph>;
}

/** Remembers from visit to visit that canaries came out right. */
export interface Trust {
  known(): Promise<boolean>;
  keep(): void;
  forget(): void;
}

export class Engine {
  #device: Device;
  #options: EngineOptions;
  #rows: Rows;
  // Inputs of the largest batch so far, used again for each.
  #input = new Uint8Array(0);
  #inputScales = new Float32Array(0);
  /** Batches so far, and the milliseconds that the model ran. */
  readonly runs = { batches: 0, took: 0 };
  #turn: Promise<unknown> = Promise.resolve();
  #unproven: boolean;
  #proving: Promise<void> | undefined;
  /** Whether the canaries came out right in an earlier visit. */
  #remembered = false;
  /** What the canaries said, where nothing else could be opened: no batch runs before something is. */
  #condemned: Error | undefined;
  /** Texts embedded while the canaries had not run. */
  #early = 0;
  #asking = 0;
  #lastAsked = performance.now();

  /** Where batches run and what runs them, why not where it was tried first, and whether golden texts came out right there. */
  readonly device: { used: DeviceName; engine: EngineName; threads: number; reason: string; checked: boolean };

  private constructor(device: Device, options: EngineOptions, reason: string) {
    this.#device = device;
    this.#options = options;
    this.#rows = options.rows;
    this.#unproven = options.canaries.length > 0;
    const { name, engine, threads } = device;
    this.device = { used: name, engine, threads, reason, checked: false };
  }

  /**
   * `graph` is given back: a large one takes as much memory as the weights made of it.
   *
   * Another device than onnxruntime's WASM is used only after its canaries gave their golden vectors. The encoder's wait for
   * `prove` where their rows would have to be fetched before the first answer, and where an earlier visit has seen them; those of
   * the last device always do, as there is nothing to turn to. Code: `model-corrupt`.
   */
  static async open(graph: Graph, options: EngineOptions): Promise<Engine> {
    if (!options.first) return new Engine(await handed(graph, options.last), options, "");
    let device: Device | undefined;
    try {
      device = await handed(graph, options.first);
      const engine = new Engine(device, options, "");
      engine.#remembered = (await options.trusted?.known()) ?? false;
      if (device.name === "webgpu" || (options.rows.stats.mode === "all" && !engine.#remembered))
        await engine.#singAll();
      return engine;
    } catch (error) {
      device?.close();
      return new Engine(await handed(await options.again(), options.last), options, message(error));
    }
  }

  /** Ids of the canaries that `prove` will run. */
  get unproven(): number[] {
    return this.#unproven ? this.#options.canaries.flatMap(({ ids }) => ids) : [];
  }

  /**
   * Try the device with its canaries, if that was put off, when nobody waits; where they do not come out right, the model is run
   * elsewhere, and that device is tried. Each waits for its turn by itself, so that a call waits for one of them at most.
   */
  prove(): Promise<void> {
    return (this.#proving ??= this.#prove().finally(() => (this.#proving = undefined)));
  }

  async #prove(): Promise<void> {
    while (this.#unproven && !this.#condemned) {
      const device = this.#device;
      const doubted = (): boolean => this.#device === device && !this.#condemned;
      if (this.#remembered || device.last) await this.#rest();
      for (const canary of this.#options.canaries) {
        let parts: ReadonlyMap<number, Bytes>;
        try {
          parts = await this.#rows.load(Int32Array.from(canary.ids));
        } catch {
          return; // Without a network nothing is known about the device: the next visit asks again.
        }
        const turn = this.#turn.then(async () => {
          if (doubted()) await this.#sing(canary, parts).catch((error) => this.#condemn(error));
        });
        this.#turn = turn;
        await turn;
      }
      if (doubted()) this.#passed();
    }
  }

  /** Until no call has come for a while. */
  async #rest(): Promise<void> {
    for (const start = performance.now(); performance.now() - start < LATEST;) {
      if (this.#asking === 0 && performance.now() - this.#lastAsked >= IDLE) return;
      await new Promise((resolve) => setTimeout(resolve, IDLE / 4));
    }
  }

  async #singAll(): Promise<void> {
    const { canaries } = this.#options;
    // The encoder's tests hold it to the graph; a driver for a GPU that nobody here has seen must show that it is right.
    if (!canaries.length && this.#device.name === "webgpu") {
      throw new Error("the model names no golden vectors to try the device with");
    }
    for (const canary of canaries) await this.#sing(canary, await this.#rows.load(Int32Array.from(canary.ids)));
    this.#passed();
  }

  /** Throws unless the device gives the golden vector. */
  async #sing(canary: Canary, parts: ReadonlyMap<number, Bytes>): Promise<void> {
    const ids = Int32Array.from(canary.ids);
    const outputs = await this.#ask(this.#gather(ids, Int32Array.of(ids.length), this.#options.dim, parts));
    const found = cosine(outputs.vectors, canary);
    if (!(found >= CANARY)) throw new Error(`a golden text has a cosine of ${found.toFixed(3)} there`);
  }

  #passed(): void {
    this.#unproven = false;
    this.device.checked = this.#options.canaries.length > 0;
    if (!this.#remembered && !this.#device.last) this.#options.trusted?.keep();
  }

  /** The canaries did not come out right after the device was used: what it has made is no good either. */
  async #condemn(error: unknown): Promise<void> {
    let reason = message(error);
    if (this.#early > 0) {
      reason += `; texts that were embedded there before (${this.#early}) may have wrong vectors: embed them again`;
      console.warn(`insitu: ${reason}`);
    }
    if (this.#device.last) {
      this.device.reason = reason;
      this.#condemned = new InsituError(
        "model-corrupt",
        `The model makes wrong vectors here: ${reason}. Its files and the golden vectors in its lock are not of one export: export it again.`,
      );
      return;
    }
    this.#condemned = new Error(reason);
    await this.#turnFrom(this.#condemned).catch((error) => {
      console.warn(`insitu: the model cannot be run elsewhere: ${message(error)}`);
    });
  }

  /**
   * Embed one batch: text i owns the next `lengths[i]` of `ids` and is written to row `positions[i]` of `block`.
   * Batches run one after another. Codes: `not-a-number`, and those of `Rows.load`.
   */
  async forward(ids: Int32Array, lengths: Int32Array, block: Block, positions: Int32Array): Promise<void> {
    this.#asking++;
    try {
      // Outside the queue: a batch whose rows are slow to come holds up no other.
      const parts = await this.#rows.load(ids);
      const run = this.#turn.then(() => this.#run(this.#gather(ids, lengths, block.dim, parts), block, positions));
      this.#turn = run.catch(() => undefined);
      await run;
    } finally {
      this.#asking--;
      this.#lastAsked = performance.now();
    }
  }

  async #run(inputs: Inputs, block: Block, positions: Int32Array): Promise<void> {
    if (this.#condemned) {
      if (this.#device.last) throw this.#condemned;
      await this.#turnFrom(this.#condemned);
    }
    const start = performance.now();
    let outputs: Outputs;
    try {
      outputs = await this.#ask(inputs);
    } catch (error) {
      // Numbers that are none come from the model here: onnxruntime may round them to integers and tell nobody.
      const broken = this.#device.name === "wasm" && error instanceof InsituError;
      if (this.#device.last || broken) throw error;
      await this.#turnFrom(error);
      outputs = await this.#ask(inputs);
    }
    if (this.#unproven) this.#early += inputs.lengths.length;
    this.runs.batches++;
    this.runs.took += performance.now() - start;
    block.write(positions, outputs);
  }

  /** The batch is finished on onnxruntime's WASM, and all later ones are run there. */
  async #turnFrom(error: unknown): Promise<void> {
    this.#options.trusted?.forget();
    const other = await handed(await this.#options.again(), this.#options.last);
    this.#device.close();
    this.#device = other;
    const { name, engine, threads } = this.#device;
    Object.assign(this.device, { used: name, engine, threads, reason: message(error), checked: false });
    this.#unproven = this.#options.canaries.length > 0;
    this.#early = 0;
    this.#condemned = undefined;
    void this.prove();
  }

  async #ask(inputs: Inputs): Promise<Outputs> {
    const { name, lost } = this.#device;
    const running = this.#device.run(inputs);
    const outputs = await (name === "wasm" ? running : within(Promise.race([running, lost])));
    for (const value of outputs.vectors) {
      if (Number.isFinite(value)) continue;
      throw new InsituError(
        "not-a-number",
        `The model gave values that are no numbers on ${name}. Its file may be damaged: export it again.`,
      );
    }
    return outputs;
  }

  #gather(ids: Int32Array, lengths: Int32Array, dim: number, parts: ReadonlyMap<number, Bytes>): Inputs {
    const size = this.#options.dim;
    const { perPart, record } = this.#rows;
    if (!record) return { lengths, ids, rows: new Uint8Array(), scales: new Float32Array(), size, dim };
    if (this.#inputScales.length < ids.length) {
      this.#input = new Uint8Array(ids.length * size);
      this.#inputScales = new Float32Array(ids.length);
    }
    const rows = this.#input.subarray(0, ids.length * size);
    const scales = this.#inputScales.subarray(0, ids.length);
    ids.forEach((id, cell) => {
      const part = parts.get(Math.floor(id / perPart))!;
      scales[cell] = readRow(part, (id % perPart) * record, record, rows.subarray(cell * size, (cell + 1) * size));
    });
    return { lengths, rows, scales, size, dim };
  }
}

/** The device that `open` makes of a graph, of which it has its own copy then. */
async function handed(graph: Graph, open: (graph: Graph) => Promise<Device>): Promise<Device> {
  try {
    return await open(graph);
  } finally {
    for (const bytes of [graph.bytes, ...graph.data.map(({ data }) => data)]) release(bytes);
  }
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
