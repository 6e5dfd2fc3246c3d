// What the families of encoders share: a batch, attention with its room, the end from states to codes.

import { PANEL } from "../../kernel/ops.ts";
import type { Heap } from "./heap.ts";
import type { Results, Tape } from "./tape.ts";
import { Unknown, type Weights } from "./weights.ts";

/** Texts one after another, without padding. Addresses on the heap. */
export interface Batch {
  /** Tokens of all texts. */
  rows: number;
  texts: number;
  /** Tokens of the longest text. */
  longest: number;
  /** int8 rows x size, and their float32 scales. */
  codes: number;
  scales: number;
  /** int32: where each text begins (texts + 1), then the same with each padded to a multiple of eight. */
  bounds: number;
  /** Tokens of all texts, each padded so. */
  padded: number;
  threads: number;
  /** Components of a vector. */
  dim: number;
  results: Results;
}

/** An encoder with its weights on the heap: writes what is to be done for a batch. */
export interface Program {
  /** Components of a token row, and of the largest vector. */
  readonly size: number;
  write(tape: Tape, heap: Heap, batch: Batch): void;
}

export interface Sides {
  q: number;
  k: number;
  v: number;
  /** Bytes from row to row. */
  stride: number;
}

/** Writes the steps of attention for the layers of one batch, which share their room. `reach` 0: every token sees all. */
export function attention(
  heap: Heap,
  { rows, texts, longest, bounds, padded, threads }: Batch,
  { heads, kvHeads, size, scale }: { heads: number; kvHeads: number; size: number; scale: number },
): (tape: Tape, sides: Sides, reach: number, out: number) => void {
  const keys = heap.allocate(4 * padded * kvHeads * size);
  const values = heap.allocate(4 * padded * kvHeads * size);
  const scratchBytes = 4 * 4 * Math.ceil(longest / PANEL) * PANEL;
  const scratch = heap.allocate(threads * scratchBytes);
  return (tape, { q, k, v, stride }, reach, out) => {
    const sees = Math.min(reach || rows, rows);
    tape.spread(k, v, stride, bounds, texts, kvHeads, size, keys, values);
    tape.attend(
      ...([q, stride, keys, values, bounds, texts, heads, kvHeads, size, scale, sees] as const),
      ...([out, 4 * heads * size, scratch, scratchBytes] as const),
    );
  };
}

/** Pooling, the matrix behind it where there is one, the vectors and their codes. */
export function head(
  weights: Weights,
  size: number,
  mean: boolean,
): (tape: Tape, heap: Heap, batch: Batch, states: number) => void {
  if (size % PANEL) throw new Unknown(`its vectors have ${size} components`);
  const matrix = weights.has("rotation") ? weights.panels("rotation", size, size) : 0;
  return (tape, heap, { texts, bounds, dim, results }, states) => {
    let pooled = heap.allocate(4 * texts * size);
    tape.pool(states, bounds, texts, size, mean, pooled);
    if (matrix) {
      const turned = heap.allocate(4 * texts * size);
      tape.project(pooled, matrix, texts, size, size, turned);
      pooled = turned;
    }
    tape.finish(pooled, texts, size, dim, results);
  };
}
