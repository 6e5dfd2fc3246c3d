// Weights from the ONNX file to the heap, laid out as the kernel reads them (web/kernel/encoder/product.ts).

import { BLOCK, PANEL } from "../../kernel/ops.ts";
import { FLOAT, FLOAT16, INT8, UINT8, type Graph, type Weight } from "./graph.ts";
import type { Heap } from "./heap.ts";

/** Addresses of a matrix of integers, and of what goes with it (0: there is none). */
export interface Matrix {
  address: number;
  /** float32, one for each column; of a matrix in blocks they are inside. */
  columns: number;
  /** float32, added to each column. */
  bias: number;
  /** float32, multiply the inputs. */
  smoothing: number;
  inputs: number;
  outputs: number;
  /** Of a weight in blocks: 8 or 4. 0: int8, one scale for each column. */
  bits: number;
}

/** Thrown for a graph that this encoder does not know, in type or shape: onnxruntime may. */
export class Unknown extends Error {}

export class Weights {
  constructor(
    private readonly graph: Graph,
    private readonly heap: Heap,
  ) {}

  has(name: string): boolean {
    return this.graph.weights.has(name);
  }

  /** Dimensions of the weight `name`. */
  dims(name: string): number[] {
    return this.#get(name).dims;
  }

  /** The address of `length` float32 on the heap; of those of an optional weight that is missing: 0. */
  vector(name: string, length: number): number {
    const values = floats(this.#get(name));
    if (values.length !== length) throw new Unknown(`${name} has ${values.length} values, not ${length}`);
    return this.heap.put(values);
  }

  /** The address of a float32 matrix (inputs x outputs) in panels of eight columns. */
  panels(name: string, inputs: number, outputs: number): number {
    const weight = this.#get(name);
    require(name, weight, [inputs, outputs]);
    const values = floats(weight);
    const address = this.heap.allocate(4 * values.length);
    const to = this.heap.floats(address, values.length);
    for (let k = 0, from = 0; k < inputs; k++) {
      for (let n = 0; n < outputs; n++) to[(n - (n % PANEL)) * inputs + k * PANEL + (n % PANEL)] = values[from++]!;
    }
    return address;
  }

  /**
   * The matrix `<name>.weight` with all that has its name. `halves`: the columns of its two halves come in turns, four of the
   * one and four of the other, as the step `gatedGelu` wants them.
   */
  matrix(name: string, inputs: number, outputs: number, halves = false): Matrix {
    const weight = this.#get(`${name}.weight`);
    if (outputs % PANEL) throw new Unknown(`${name} has ${outputs} columns`);
    const columns = order(outputs, halves);
    const one = (part: string): number => (this.has(`${name}.${part}`) ? this.vector(`${name}.${part}`, outputs) : 0);
    const smoothing = this.has(`${name}.smoothing`) ? this.vector(`${name}.smoothing`, inputs) : 0;
    const common = { smoothing, inputs, outputs };
    if (weight.type === INT8) {
      require(name, weight, [inputs, outputs]);
      if (inputs % 4 || halves !== (outputs > 0 && halves)) throw new Unknown(`${name} has ${inputs} inputs`);
      const scales = floats(this.#get(`${name}.scale`));
      const address = this.#int8(weight, inputs, outputs, columns);
      const ordered = this.heap.put(Float32Array.from(columns, (n) => scales[n]!));
      return { ...common, address, columns: ordered, bias: one("bias"), bits: 0 };
    }
    const blocks = inputs / BLOCK;
    const bits = ((weight.dims[2] ?? 0) * 8) / BLOCK;
    if (weight.type !== UINT8 || (bits !== 4 && bits !== 8) || this.has(`${name}.bias`)) {
      throw new Unknown(`${name} is of type ${weight.type}, ${weight.dims}`);
    }
    require(name, weight, [outputs, blocks, (BLOCK * bits) / 8]);
    const scales = this.#get(`${name}.scale`);
    if (scales.type !== FLOAT16) throw new Unknown(`${name}.scale is of type ${scales.type}`);
    return { ...common, address: this.#blocks(weight, scales, blocks, columns, bits), columns: 0, bias: 0, bits };
  }

  #get(name: string): Weight {
    const found = this.graph.weights.get(name);
    if (!found) throw new Unknown(`there is no ${name}`);
    return found;
  }

  /** [N / 8][K / 2][8][2] of a K x N matrix. */
  #int8({ bytes }: Weight, inputs: number, outputs: number, columns: Uint32Array): number {
    const address = this.heap.allocate(inputs * outputs);
    const to = this.heap.bytes.subarray(address, address + inputs * outputs);
    for (let k = 0; k < inputs; k++) {
      const row = k * outputs;
      const inside = (k >> 1) * 2 * PANEL + (k & 1);
      for (let n = 0; n < outputs; n++) {
        to[(n - (n & 7)) * inputs + inside + 2 * (n & 7)] = bytes[row + columns[n]!]!;
      }
    }
    return address;
  }

  /** [N / 8][K / 32] of weights and scales. `weight`: [N][K / 32] blocks of codes in order, in 4 bits the first one below. */
  #blocks(weight: Weight, scales: Weight, blocks: number, columns: Uint32Array, bits: number): number {
    const size = 4 * bits * PANEL;
    const step = size + 2 * PANEL;
    const outputs = columns.length;
    const address = this.heap.allocate((outputs / PANEL) * blocks * step);
    const to = this.heap.bytes.subarray(address, address + (outputs / PANEL) * blocks * step);
    const codes = weight.bytes;
    for (let n = 0; n < outputs; n++) {
      const lane = n & 7;
      for (let block = 0; block < blocks; block++) {
        const at = ((n >> 3) * blocks + block) * step;
        const which = columns[n]! * blocks + block;
        let from = which * 4 * bits;
        if (bits === 8) {
          for (let k = 0; k < BLOCK; k++) to[at + (k >> 1) * 2 * PANEL + 2 * lane + (k & 1)] = codes[from++]! - 128;
        } else {
          // Four channels: the first pair lies below the second.
          for (let k = 0; k < BLOCK; k += 4, from += 2) {
            const place = at + k * 4 + 2 * lane;
            const low = codes[from]!;
            const high = codes[from + 1]!;
            to[place] = (low & 15) | ((high & 15) << 4);
            to[place + 1] = (low >> 4) | (high & 240);
          }
        }
        to[at + size + 2 * lane] = scales.bytes[2 * which]!;
        to[at + size + 2 * lane + 1] = scales.bytes[2 * which + 1]!;
      }
    }
    return address;
  }
}

function require(name: string, { dims }: Weight, wanted: number[]): void {
  if (dims.join() !== wanted.join()) throw new Unknown(`${name} has the shape ${dims}, not ${wanted}`);
}

/** Where column n of the heap is in the file. */
function order(outputs: number, halves: boolean): Uint32Array {
  return Uint32Array.from({ length: outputs }, (_, n) =>
    halves ? (n >> 3) * 4 + (n & 3) + ((n & 4) / 4) * (outputs / 2) : n,
  );
}

/** float32 or float16 values as float32. */
function floats({ type, bytes }: Weight): Float32Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (type === FLOAT) return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  if (type !== FLOAT16) throw new Unknown(`a weight is of type ${type}`);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => half(view.getUint16(2 * i, true)));
}

/** The value of the bits of a float16. */
export function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
  return bits >> 15 ? -size : size;
}
