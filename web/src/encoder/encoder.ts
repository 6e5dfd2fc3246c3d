// The encoder of the page: an exported graph that it knows, run by its own kernel. See DESIGN.md, "The encoder of the page".

import type { Inputs, Outputs } from "../device.ts";
import type { Bytes } from "../files.ts";
import type { Place } from "../place.ts";
import { bert } from "./bert.ts";
import { gemma } from "./gemma.ts";
import { readGraph } from "./graph.ts";
import { Heap } from "./heap.ts";
import { instantiate } from "./kernel.ts";
import type { Program } from "./program.ts";
import { Tape, type Results } from "./tape.ts";
import { Threads } from "./threads.ts";
import { Unknown, Weights } from "./weights.ts";

const FAMILIES: Record<string, (weights: Weights, settings: Record<string, unknown>) => Program> = { bert, gemma };
/** What activations may take beside the weights: 40 MB for 2,048 tokens of EmbeddingGemma. */
const ROOM = 256 << 20;

export class Encoder {
  #program: Program;
  #heap: Heap;
  #threads: Threads;
  /** Behind it is what one batch needs. */
  #mark: number;

  private constructor(program: Program, heap: Heap, threads: Threads) {
    this.#program = program;
    this.#heap = heap;
    this.#threads = threads;
    this.#mark = heap.mark();
  }

  /** Threads that share the work. */
  get threads(): number {
    return this.#threads.count;
  }

  /** Throws `Unknown` if the graph is none that this encoder knows; other errors where it cannot run here. */
  static async open(
    graph: Bytes,
    module: Promise<WebAssembly.Module>,
    place: Place,
    threads: number,
  ): Promise<Encoder> {
    const read = readGraph(graph);
    const family = FAMILIES[String(read.encoder?.["family"])];
    if (!family || !read.encoder) throw new Unknown("the graph does not say what it is");
    const compiled = await module;
    const heap = new Heap(graph.length * 2 + ROOM);
    const kernel = instantiate(compiled, heap.memory);
    heap.release(kernel.heapBase());
    const weights = new Weights(read, heap, kernel, threads);
    const program = family(weights, read.encoder);
    weights.forget();
    const state = heap.allocate(16);
    heap.ints(state, 4).fill(0);
    const started = await Threads.start(kernel, { module: compiled, memory: heap.memory, state }, place, threads);
    return new Encoder(program, heap, started);
  }

  /** Throws an Error if a thread is dead. */
  run({ lengths, rows, scales, dim }: Inputs): Outputs {
    const heap = this.#heap;
    const { size } = this.#program;
    const texts = lengths.length;
    heap.release(this.#mark);
    const bounds = new Int32Array(2 * (texts + 1));
    let longest = 1;
    lengths.forEach((length, i) => {
      bounds[i + 1] = bounds[i]! + length;
      bounds[texts + 2 + i] = bounds[texts + 1 + i]! + Math.ceil(length / 8) * 8;
      longest = Math.max(longest, length);
    });
    const count = bounds[texts]!;
    const results: Results = {
      vectors: heap.allocate(4 * texts * dim),
      codes: heap.allocate(texts * dim),
      scales: heap.allocate(4 * texts),
      fullCodes: heap.allocate(texts * size),
      fullScales: heap.allocate(4 * texts),
    };
    const batch = {
      rows: count,
      texts,
      longest,
      codes: heap.allocate(count * size),
      scales: heap.allocate(4 * count),
      bounds: heap.allocate(bounds.byteLength),
      padded: bounds[2 * texts + 1]!,
      threads: this.#threads.count,
      dim,
      results,
    };
    const tape = new Tape();
    this.#program.write(tape, heap, batch);
    const address = tape.write(heap);
    heap.bytes.set(rows, batch.codes);
    heap.floats(batch.scales, count).set(scales);
    heap.ints(batch.bounds, bounds.length).set(bounds);
    this.#threads.run(address);
    const bytes = heap.bytes;
    const signed = (at: number, length: number): Int8Array => new Int8Array(bytes.slice(at, at + length).buffer);
    return {
      vectors: heap.floats(results.vectors, texts * dim).slice(),
      codes: signed(results.codes, texts * dim),
      scales: heap.floats(results.scales, texts).slice(),
      fullCodes: signed(results.fullCodes, texts * size),
      fullScales: heap.floats(results.fullScales, texts).slice(),
    };
  }

  close(): void {
    this.#threads.close();
  }
}
