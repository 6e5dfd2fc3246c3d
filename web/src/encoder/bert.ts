// BERT encoders as a tape. The same steps as py/insitu/model/bert.py writes as nodes, with the same roundings.

import { Then } from "../../kernel/ops.ts";
import { attention, head, type Batch, type Program } from "./program.ts";
import { Unknown, type Weights } from "./weights.ts";

/** Below GELU's least value: see GELU_FLOOR in py/insitu/model/linear.py. */
const GELU_FLOOR = 0.1701;

export function bert(weights: Weights, settings: Record<string, unknown>): Program {
  const { layers, heads, epsilon, pooling } = settings as Record<string, number> & { pooling: string };
  if (!layers || !heads || !epsilon) throw new Unknown("its numbers are missing");
  const [places, size] = weights.dims("positions") as [number, number];
  const inner = weights.dims("layer.0.up.weight")[1]!;
  const headSize = size / heads;
  if (headSize % 8) throw new Unknown(`a head has ${headSize} channels`);
  const norm = (name: string): { gain: number; bias: number } => ({
    gain: weights.vector(`${name}.weight`, size),
    bias: weights.vector(`${name}.bias`, size),
  });
  const positions = weights.vector("positions", places * size);
  const first = norm("norm");
  const stack = Array.from({ length: layers }, (_, i) => ({
    qkv: weights.matrix(`layer.${i}.qkv`, size, 3 * size),
    out: weights.matrix(`layer.${i}.out`, size, size),
    outNorm: norm(`layer.${i}.out.norm`),
    up: weights.matrix(`layer.${i}.up`, size, inner),
    down: weights.matrix(`layer.${i}.down`, inner, size),
    downNorm: norm(`layer.${i}.down.norm`),
  }));
  const finish = head(weights, size, pooling !== "cls");

  return {
    size,
    write(tape, heap, batch: Batch): void {
      const { rows, texts, bounds } = batch;
      const row = 4 * size;
      const x = heap.allocate(rows * row);
      const y = heap.allocate(rows * row);
      const wide = heap.allocate(rows * 4 * Math.max(3 * size, inner));
      const ints = {
        codes: heap.allocate(rows * 2 * Math.max(size, inner)),
        scales: heap.allocate(rows * 4),
        offset: 0,
      };
      const attend = attention(heap, batch, { heads, kvHeads: heads, size: headSize, scale: headSize ** -0.5 });

      tape.embed(batch.codes, batch.scales, positions, bounds, texts, size, x);
      tape.norm(x, 0, first, x, rows, size, epsilon);
      for (const { qkv, out, outNorm, up, down, downNorm } of stack) {
        tape.quantise(x, qkv, 0, ints, rows);
        tape.product(ints, qkv, wide, 3 * row, rows, Then.store);
        attend(tape, { q: wide, k: wide + row, v: wide + 2 * row, stride: 3 * row }, 0, y);
        tape.quantise(y, out, 0, ints, rows);
        tape.product(ints, out, y, row, rows, Then.add, x);
        tape.norm(y, 0, outNorm, x, rows, size, epsilon);
        tape.quantise(x, up, 0, ints, rows);
        tape.product(ints, up, wide, 4 * inner, rows, Then.gelu);
        tape.quantise(wide, down, GELU_FLOOR, ints, rows);
        tape.product(ints, down, y, row, rows, Then.add, x);
        tape.norm(y, 0, downNorm, x, rows, size, epsilon);
      }
      finish(tape, heap, batch, x);
    },
  };
}
