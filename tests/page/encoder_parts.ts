// One product of the encoder's kernel, for test_encoder.py: by bytes where the machine has exact products of these, and by words.
import { Bytes, Then } from "../../web/kernel/ops.ts";
import { FLOAT, INT8, type Weight } from "../../web/src/encoder/graph.ts";
import { Heap } from "../../web/src/encoder/heap.ts";
import { instantiate, type Kernel } from "../../web/src/encoder/kernel.ts";
import { Tape } from "../../web/src/encoder/tape.ts";
import { Weights } from "../../web/src/encoder/weights.ts";
import { chanceOf } from "./chance.ts";

interface Case {
  rows: number;
  inputs: number;
  outputs: number;
  floor: number;
  halves: boolean;
}

/** What bytes are here, and how many of the values that were stored differ in a bit, of how many. */
export async function products(url: string, cases: Case[]): Promise<[kind: Bytes, wrong: number, all: number]> {
  const module = await WebAssembly.compileStreaming(fetch(url));
  let [kind, wrong, all] = [Bytes.inexact, 0, 0];
  cases.forEach((one, seed) => {
    const { kind: found, values } = product(module, one, seed, (kernel) => kernel);
    const words = product(module, one, seed, (kernel) => ({ ...kernel, byteKind: () => Bytes.inexact }));
    kind = found;
    all += values.length;
    values.forEach((bits, i) => (wrong += Number(bits !== words.values[i])));
  });
  return [kind, wrong, all];
}

function product(
  module: WebAssembly.Module,
  { rows, inputs, outputs, floor, halves }: Case,
  seed: number,
  change: (kernel: Kernel) => Kernel,
): { kind: Bytes; values: Int32Array } {
  const chance = chanceOf(seed);
  const heap = new Heap(64 << 20);
  const kernel = change(instantiate(module, heap.memory));
  heap.release(kernel.heapBase());
  // The extremes are frequent: there a sum that stops at 16 bits would show.
  const codes = Int8Array.from({ length: inputs * outputs }, () => (chance(4) ? chance(255) - 127 : 127));
  const floats = (count: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: count }, () => 0.01 + chance(100) / 1e4);
  const weights: Record<string, Weight> = {
    "m.weight": { type: INT8, dims: [inputs, outputs], bytes: new Uint8Array(codes.buffer) },
    "m.scale": { type: FLOAT, dims: [outputs], bytes: new Uint8Array(floats(outputs).buffer) },
    "m.bias": { type: FLOAT, dims: [outputs], bytes: new Uint8Array(floats(outputs).buffer) },
  };
  const held = new Weights({ weights: new Map(Object.entries(weights)), encoder: undefined }, heap, kernel, 1);
  const matrix = held.matrix("m", inputs, outputs, halves);
  const least = floor ? -0.17 : -3;
  const x = heap.put(Float32Array.from({ length: rows * inputs }, () => (chance(4) ? least + chance(3000) / 1000 : 3)));
  const ints = { codes: heap.allocate(2 * rows * inputs), scales: heap.allocate(4 * rows), offset: 0 };
  const out = heap.allocate(4 * rows * outputs);
  const state = heap.allocate(16);
  const tape = new Tape();
  tape.quantise(x, matrix, floor, ints, rows);
  tape.product(ints, matrix, out, 4 * outputs, rows, halves ? Then.gatedGelu : Then.store);
  kernel.run(tape.write(heap), state, 0, 1);
  return { kind: held.bytes, values: heap.ints(out, rows * outputs).slice() };
}
