// The encoder of the page: an exported graph that it knows, run by its own kernel. See DESIGN.md, "The encoder of the page".

import type { Inputs, Outputs } from "../device.ts";
import type { Bytes } from "../files.ts";
import type { Place } from "../place.ts";
import { bert } from "./bert.ts";
import { deal } from "./deal.ts";
import { gemma } from "./gemma.ts";
import { readGraph } from "./graph.ts";
import { Heap } from "./heap.ts";
import { instantiate } from "./kernel.ts";
import type { Program } from "./program.ts";
import { MOST_PARTS, Tape, type Results } from "./tape.ts";
import { Threads } from "./threads.ts";
import { Unknown, Weights } from "./weights.ts";

const FAMILIES: Record<string, (weights: Weights, settings: Record<string, unknown>) => Program> = { bert, gemma };
/** What activations may take beside the weights: 40 MB for 2,048 tokens of EmbeddingGemma. */
const ROOM = 256 << 20;

/** Some texts of a batch, by their positions in it, and where their results will be. */
interface Part {
  texts: number[];
  results: Results;
}

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
  run(inputs: Inputs): Outputs {
    const heap = this.#heap;
    heap.release(this.#mark);
    const { alone, together } = deal(inputs.lengths, Math.min(this.threads, MOST_PARTS));
    const tape = new Tape();
    const parts = alone.map((texts) => {
      const own = new Tape();
      return { ...this.#lay(own, inputs, texts, 1), address: own.write(heap) };
    });
    if (parts.length) tape.each(parts.map(({ address }) => address));
    if (together.length) parts.push({ ...this.#lay(tape, inputs, together, this.threads), address: 0 });
    this.#threads.run(tape.write(heap));
    return this.#collect(inputs, parts);
  }

  /** Copy some texts of a batch to the heap and write the steps for them. */
  #lay(tape: Tape, { lengths, rows, scales, dim }: Inputs, chosen: number[], threads: number): Part {
    const heap = this.#heap;
    const { size } = this.#program;
    const texts = chosen.length;
    const bounds = new Int32Array(2 * (texts + 1));
    let longest = 1;
    chosen.forEach((text, i) => {
      const length = lengths[text]!;
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
      threads,
      dim,
      results,
    };
    this.#program.write(tape, heap, batch);
    const [codes, floats] = [heap.bytes, heap.floats(batch.scales, count)];
    heap.ints(batch.bounds, bounds.length).set(bounds);
    const starts = new Int32Array(lengths.length + 1);
    lengths.forEach((length, i) => (starts[i + 1] = starts[i]! + length));
    chosen.forEach((text, i) => {
      const [from, to] = [starts[text]!, starts[text + 1]!];
      codes.set(rows.subarray(from * size, to * size), batch.codes + bounds[i]! * size);
      floats.set(scales.subarray(from, to), bounds[i]!);
    });
    return { texts: chosen, results };
  }

  #collect({ lengths, dim }: Inputs, parts: Part[]): Outputs {
    const heap = this.#heap;
    const { size } = this.#program;
    const texts = lengths.length;
    const outputs = {
      vectors: new Float32Array(texts * dim),
      codes: new Int8Array(texts * dim),
      scales: new Float32Array(texts),
      fullCodes: new Int8Array(texts * size),
      fullScales: new Float32Array(texts),
    };
    const bytes = new Int8Array(heap.bytes.buffer);
    for (const { texts: chosen, results } of parts) {
      const scales = heap.floats(results.scales, chosen.length);
      const fullScales = heap.floats(results.fullScales, chosen.length);
      const vectors = heap.floats(results.vectors, chosen.length * dim);
      chosen.forEach((text, i) => {
        outputs.vectors.set(vectors.subarray(i * dim, (i + 1) * dim), text * dim);
        outputs.codes.set(bytes.subarray(results.codes + i * dim, results.codes + (i + 1) * dim), text * dim);
        outputs.scales[text] = scales[i]!;
        const full = results.fullCodes + i * size;
        outputs.fullCodes.set(bytes.subarray(full, full + size), text * size);
        outputs.fullScales[text] = fullScales[i]!;
      });
    }
    return outputs;
  }

  close(): void {
    this.#threads.close();
  }
}
