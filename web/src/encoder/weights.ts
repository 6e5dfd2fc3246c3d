// Weights from the ONNX file to the heap, laid out as the kernel reads them (web/kernel/encoder/product.ts).

import { BLOCK, Bytes, PANEL } from "../../kernel/ops.ts";
import type { Bytes as Data } from "../files.ts";
import { FLOAT, FLOAT16, INT8, UINT8, type Graph, type Weight } from "./graph.ts";
import type { Heap } from "./heap.ts";
import type { Kernel } from "./kernel.ts";

/** Addresses of a matrix of integers, and of what goes with it (0: there is none). */
export interface Matrix {
  address: number;
  /** float32, one for each column; of a matrix in blocks they are inside. */
  columns: number;
  /** int32, the sum of each column's weights, where activations are bytes. */
  sums: number;
  /** What bytes are here. */
  bytes: Bytes;
  /** float32, added to each column. */
  bias: number;
  /** float32, multiply the inputs. */
  smoothing: number;
  inputs: number;
  outputs: number;
  /** Of a weight in blocks: 8 or 4. 0: int8, one scale for each column. */
  bits: number;
  /** Where a weight of 4 bits is unpacked, panel by panel. */
  room: number;
}

/** Thrown for a graph that this encoder does not know, in type or shape: onnxruntime may. */
export class Unknown extends Error {}

export class Weights {
  #weights: ReadonlyMap<string, Weight>;
  #rooms = new Map<number, number>();
  /** What products of bytes are here. */
  readonly bytes: Bytes;

  /** `threads`: as many as may run the kernel at most. */
  constructor(
    { weights }: Graph,
    private readonly heap: Heap,
    private readonly kernel: Kernel,
    private readonly threads: number,
  ) {
    this.#weights = weights;
    this.bytes = kernel.byteKind(heap.allocate(32));
  }

  /** All is on the heap: let the file go, which programs would keep alive. */
  forget(): void {
    this.#weights = new Map();
  }

  has(name: string): boolean {
    return this.#weights.has(name);
  }

  /** Dimensions of the weight `name`. */
  dims(name: string): number[] {
    return this.#get(name).dims;
  }

  /** The address of the weight `name`, `length` float32. */
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
    if (outputs % PANEL || (halves && outputs % (2 * PANEL))) throw new Unknown(`${name} has ${outputs} columns`);
    const one = (part: string): number => (this.has(`${name}.${part}`) ? this.vector(`${name}.${part}`, outputs) : 0);
    const smoothing = this.has(`${name}.smoothing`) ? this.vector(`${name}.smoothing`, inputs) : 0;
    const common = { smoothing, inputs, outputs };
    if (weight.type === INT8) {
      require(name, weight, [inputs, outputs]);
      if (inputs % 4) throw new Unknown(`${name} has ${inputs} inputs`);
      const scales = floats(this.#get(`${name}.scale`));
      const sums = this.bytes === Bytes.inexact ? 0 : this.heap.allocate(4 * outputs);
      const address = this.#packed(inputs * outputs, [weight.bytes], (to, from) => {
        if (sums) this.kernel.packBytes(from!, to, sums, inputs, outputs, halves);
        else this.kernel.packColumns(from!, to, inputs, outputs, halves);
      });
      const columns = this.heap.put(scales.map((_, n) => scales[halves ? half(n, outputs) : n]!));
      return { ...common, address, columns, sums, bytes: this.bytes, bias: one("bias"), bits: 0, room: 0 };
    }
    const blocks = inputs / BLOCK;
    const bits = ((weight.dims[2] ?? 0) * 8) / BLOCK;
    if (weight.type !== UINT8 || (bits !== 4 && bits !== 8) || this.has(`${name}.bias`)) {
      throw new Unknown(`${name} is of type ${weight.type}, ${weight.dims}`);
    }
    require(name, weight, [outputs, blocks, (BLOCK * bits) / 8]);
    const scales = this.#get(`${name}.scale`);
    if (scales.type !== FLOAT16) throw new Unknown(`${name}.scale is of type ${scales.type}`);
    const size = (outputs / PANEL) * blocks * (PANEL * 4 * bits + 2 * PANEL);
    const address = this.#packed(size, [weight.bytes, scales.bytes], (to, from, halfs) =>
      this.kernel.packBlocks(from!, halfs!, to, blocks, outputs, bits, halves),
    );
    return {
      ...common,
      address,
      columns: 0,
      sums: 0,
      bytes: Bytes.inexact,
      bias: 0,
      bits,
      room: bits === 4 ? this.#room(blocks) : 0,
    };
  }

  /** A panel of 8 bits for each thread, the same for all matrices of so many blocks. */
  #room(blocks: number): number {
    const bytes = blocks * (PANEL * BLOCK + 2 * PANEL) * this.threads;
    const room = this.#rooms.get(blocks) ?? this.heap.allocate(bytes);
    this.#rooms.set(blocks, room);
    return room;
  }

  #get(name: string): Weight {
    const found = this.#weights.get(name);
    if (!found) throw new Unknown(`there is no ${name}`);
    return found;
  }

  /** The address of what `pack` makes of `parts`, copies of which it is given. */
  #packed(bytes: number, parts: Data[], pack: (to: number, ...from: number[]) => void): number {
    const to = this.heap.allocate(bytes);
    const end = this.heap.mark();
    const from = parts.map((part) => {
      const address = this.heap.allocate(part.length);
      this.heap.bytes.set(part, address);
      return address;
    });
    pack(to, ...from);
    this.heap.release(end);
    return to;
  }
}

function require(name: string, { dims }: Weight, wanted: number[]): void {
  if (dims.join() !== wanted.join()) throw new Unknown(`${name} has the shape ${dims}, not ${wanted}`);
}

/** Where column n of the heap is in the file, when fours of its halves come in turns. */
function half(n: number, outputs: number): number {
  return (n >> 3) * 4 + (n & 3) + (n & 4 ? outputs / 2 : 0);
}

/** float32 or float16 values as float32. */
function floats({ type, bytes }: Weight): Float32Array<ArrayBuffer> {
  const { buffer } = bytes.slice(); // aligned
  if (type === FLOAT) return new Float32Array(buffer);
  if (type === FLOAT16) return fromFloat16(new Uint16Array(buffer));
  throw new Unknown(`a weight is of type ${type}`);
}

/** float32 of the bits of float16: the exponent is moved by a product, which makes subnormal numbers right too. */
export function fromFloat16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const values = new Float32Array(bits.length);
  const words = new Uint32Array(values.buffer);
  for (let i = 0; i < bits.length; i++) words[i] = ((bits[i]! & 0x8000) << 16) | ((bits[i]! & 0x7fff) << 13);
  for (let i = 0; i < bits.length; i++) values[i]! *= 2 ** 112;
  return values;
}
