// A tape: the steps that the kernel runs for one batch. Arguments are those of the kernel's functions (web/kernel/encoder/), in
// their order, without the last two (thread, threads).

import { Bytes, Op, STEP_BYTES, type Then } from "../../kernel/ops.ts";
import type { Heap } from "./heap.ts";
import type { Matrix } from "./weights.ts";

/** Threads that may have a tape of their own: arguments of a step. */
export const MOST_PARTS = STEP_BYTES / 4 - 1;

export class Tape {
  #bytes = new ArrayBuffer(64 * STEP_BYTES);
  #length = 0;

  /** Copy the tape to the heap; gives its address. */
  write(heap: Heap): number {
    this.#step(Op.end);
    const address = heap.allocate(this.#length);
    heap.bytes.set(new Uint8Array(this.#bytes, 0, this.#length), address);
    return address;
  }

  embed(
    codes: number,
    scales: number,
    positions: number,
    starts: number,
    texts: number,
    size: number,
    out: number,
  ): void {
    this.#step(Op.embed, codes, scales, positions, starts, texts, size, out);
  }

  norm(
    x: number,
    sum: number,
    { gain, bias }: { gain: number; bias: number },
    out: number,
    rows: number,
    size: number,
    epsilon: number,
  ): void {
    this.#step(Op.norm, x, sum, gain, bias, out, rows, size, float(epsilon));
  }

  /** `matrix`: the one that the integers are for. */
  quantise(x: number, matrix: Matrix, floor: number, to: Activations, rows: number): void {
    const levels = floor ? 255 : matrix.bits ? 32767 : 127;
    const { smoothing, inputs, sums, bytes } = matrix;
    // Codes are 0 to 255 with a floor and -127 to 127 without.
    to.offset = bytes === Bytes.unsigned ? (floor ? 0 : 128) : floor ? -128 : 0;
    const kind = [float(floor), float(levels), sums && 1, to.offset];
    this.#step(Op.quantise, x, smoothing, ...kind, to.codes, to.scales, rows, inputs);
  }

  /** `stride`: bytes of a row of `out`, and of `residual`. */
  product(a: Activations, matrix: Matrix, out: number, stride: number, rows: number, then: Then, residual = 0): void {
    const { codes, scales, offset } = a;
    const { address: w, columns, bias, sums, inputs, outputs, bits, room } = matrix;
    const rest = [out, stride, rows, inputs, outputs, then, residual];
    if (bits) this.#step(Op.productBlocks, codes, scales, w, bits, room, ...rest);
    else this.#step(Op.product, codes, scales, w, columns, bias, sums, offset, ...rest);
  }

  turn(
    x: number,
    stride: number,
    heads: number,
    size: number,
    gain: number,
    epsilon: number,
    angles: { cosines: number; sines: number },
    starts: number,
    texts: number,
  ): void {
    this.#step(Op.turn, x, stride, heads, size, gain, float(epsilon), angles.cosines, angles.sines, starts, texts);
  }

  spread(
    k: number,
    v: number,
    stride: number,
    bounds: number,
    texts: number,
    heads: number,
    size: number,
    keys: number,
    values: number,
  ): void {
    this.#step(Op.spread, k, v, stride, bounds, texts, heads, size, keys, values);
  }

  attend(
    q: number,
    qStride: number,
    keys: number,
    values: number,
    bounds: number,
    texts: number,
    heads: number,
    kvHeads: number,
    size: number,
    scale: number,
    reach: number,
    out: number,
    outStride: number,
    scratch: number,
    scratchBytes: number,
  ): void {
    const sees = [float(scale), reach];
    const to = [out, outStride, scratch, scratchBytes];
    this.#step(Op.attend, q, qStride, keys, values, bounds, texts, heads, kvHeads, size, ...sees, ...to);
  }

  /** `tapes`: addresses, one for each thread (not more than there are arguments); 0 where a thread has nothing to do. */
  each(tapes: number[]): void {
    this.#step(Op.each, ...tapes, ...new Array<number>(MOST_PARTS - tapes.length).fill(0));
  }

  pool(x: number, starts: number, texts: number, size: number, mean: boolean, out: number): void {
    this.#step(Op.pool, x, starts, texts, size, mean ? 1 : 0, out);
  }

  project(a: number, w: number, rows: number, inputs: number, outputs: number, out: number): void {
    this.#step(Op.project, a, w, rows, inputs, outputs, out);
  }

  finish(x: number, rows: number, size: number, dim: number, to: Results): void {
    this.#step(Op.finish, x, rows, size, dim, to.vectors, to.codes, to.scales, to.fullCodes, to.fullScales);
  }

  #step(op: Op, ...args: number[]): void {
    if (this.#length + STEP_BYTES > this.#bytes.byteLength) {
      const longer = new ArrayBuffer(2 * this.#bytes.byteLength);
      new Uint8Array(longer).set(new Uint8Array(this.#bytes));
      this.#bytes = longer;
    }
    new Int32Array(this.#bytes, this.#length, STEP_BYTES / 4).set([op, ...args]);
    this.#length += STEP_BYTES;
  }
}

/** Addresses of rows of integers and of their scales. */
export interface Activations {
  codes: number;
  scales: number;
  /** What was added to the integers that the tape has there last. */
  offset: number;
}

/** Addresses of what a batch gives. */
export interface Results {
  vectors: number;
  codes: number;
  scales: number;
  fullCodes: number;
  fullScales: number;
}

const word = new DataView(new ArrayBuffer(4));

/** The bits of a float32. */
function float(value: number): number {
  word.setFloat32(0, value);
  return word.getInt32(0);
}
