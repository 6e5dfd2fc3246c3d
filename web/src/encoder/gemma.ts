// Gemma 3 text encoders as a tape. The same steps as py/insitu/model/gemma.py writes as nodes.

import { Then } from "../../kernel/ops.ts";
import { attention, head, type Batch, type Program } from "./program.ts";
import { Unknown, type Weights } from "./weights.ts";

export function gemma(weights: Weights, settings: Record<string, unknown>): Program {
  const { layers, heads, epsilon } = settings as Record<string, number>;
  const { reach, bases } = settings as Record<string, number[]>;
  if (!layers || !heads || !epsilon || reach?.length !== layers || bases?.length !== layers) {
    throw new Unknown("its numbers are missing");
  }
  const size = weights.dims("layer.0.norm.weight")[0]!;
  const headSize = weights.dims("layer.0.q_norm.weight")[0]!;
  const sides = (heads + 2) * headSize;
  const inner = innerSize(weights, size);
  if (headSize % 8 || inner % 8) throw new Unknown(`a head has ${headSize} channels, a layer ${inner} inside`);
  const gain = (name: string, length = size) => ({ gain: weights.vector(`${name}.weight`, length), bias: 0 });
  const stack = Array.from({ length: layers }, (_, i) => ({
    qkv: weights.matrix(`layer.${i}.qkv`, size, sides),
    qNorm: gain(`layer.${i}.q_norm`, headSize).gain,
    kNorm: gain(`layer.${i}.k_norm`, headSize).gain,
    out: weights.matrix(`layer.${i}.out`, heads * headSize, size),
    outNorm: gain(`layer.${i}.out.norm`),
    upNorm: gain(`layer.${i}.up.norm`),
    up: weights.matrix(`layer.${i}.up`, size, 2 * inner, true),
    down: weights.matrix(`layer.${i}.down`, inner, size),
    downNorm: gain(`layer.${i}.down.norm`),
    /** Before the next layer, or the last of all. */
    nextNorm: gain(`layer.${i + 1}.norm`),
    reach: reach[i]!,
    base: bases[i]!,
  }));
  const first = gain("layer.0.norm");
  const finish = head(weights, size, true);

  return {
    size,
    write(tape, heap, batch: Batch): void {
      const { rows, texts, bounds, longest } = batch;
      const row = 4 * size;
      const stride = 4 * sides;
      const hidden = heap.allocate(rows * row);
      const x = heap.allocate(rows * Math.max(row, 4 * heads * headSize));
      const wide = heap.allocate(rows * 4 * Math.max(sides, inner));
      const most = Math.max(size, heads * headSize, inner);
      const ints = { codes: heap.allocate(rows * 2 * most), scales: heap.allocate(rows * 4), offset: 0 };
      const attend = attention(heap, batch, { heads, kvHeads: 1, size: headSize, scale: 1 });
      const angles = new Map([...new Set(bases)].map((base) => [base, turns(longest, headSize, base)]));
      const turned = new Map(
        [...angles].map(([base, { cosines, sines }]) => {
          const room = { cosines: heap.allocate(cosines.byteLength), sines: heap.allocate(sines.byteLength) };
          heap.floats(room.cosines, cosines.length).set(cosines);
          heap.floats(room.sines, sines.length).set(sines);
          return [base, room] as const;
        }),
      );

      tape.embed(batch.codes, batch.scales, 0, bounds, texts, size, hidden);
      tape.norm(hidden, 0, first, x, rows, size, epsilon);
      for (const layer of stack) {
        const q = wide;
        const k = wide + 4 * heads * headSize;
        const v = k + 4 * headSize;
        const by = turned.get(layer.base)!;
        tape.quantise(x, layer.qkv, 0, ints, rows);
        tape.product(ints, layer.qkv, wide, stride, rows, Then.store);
        tape.turn(q, stride, heads, headSize, layer.qNorm, epsilon, by, bounds, texts);
        tape.turn(k, stride, 1, headSize, layer.kNorm, epsilon, by, bounds, texts);
        attend(tape, { q, k, v, stride }, layer.reach, x);
        tape.quantise(x, layer.out, 0, ints, rows);
        tape.product(ints, layer.out, x, row, rows, Then.store);
        tape.norm(x, 0, layer.outNorm, x, rows, size, epsilon);
        tape.norm(x, hidden, layer.upNorm, x, rows, size, epsilon);
        tape.quantise(x, layer.up, 0, ints, rows);
        tape.product(ints, layer.up, wide, 4 * inner, rows, Then.gatedGelu);
        tape.quantise(wide, layer.down, 0, ints, rows);
        tape.product(ints, layer.down, x, row, rows, Then.store);
        tape.norm(x, 0, layer.downNorm, x, rows, size, epsilon);
        tape.norm(x, hidden, layer.nextNorm, x, rows, size, epsilon);
      }
      finish(tape, heap, batch, x);
    },
  };
}

/** Channels inside a layer: what `down` reads. int8: its first dimension; in blocks: a multiple of 32 that `up` agrees with. */
function innerSize(weights: Weights, size: number): number {
  const dims = weights.dims("layer.0.up.weight");
  return (dims.length === 2 && dims[0] === size ? dims[1]! : dims[0]!) / 2;
}

/** Cosines and sines of the rotary angles, places x size / 2: place * base^(-2i / size). */
function turns(places: number, size: number, base: number): { cosines: Float32Array; sines: Float32Array } {
  const half = size / 2;
  const cosines = new Float32Array(places * half);
  const sines = new Float32Array(places * half);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(base ** ((-2 * i) / size));
    for (let place = 0; place < places; place++) {
      const angle = Math.fround(place * frequency);
      cosines[place * half + i] = Math.cos(angle);
      sines[place * half + i] = Math.sin(angle);
    }
  }
  return { cosines, sines };
}
