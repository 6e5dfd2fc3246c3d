// What the encoder reads of an ONNX file: its weights by name, and the numbers that say what its nodes are.
//
// ONNX is protocol buffers (onnx.proto): a field is a key (number * 8 + wire type) and a value. Weights are views of the file.

import type { Bytes } from "../files.ts";

/** TensorProto.DataType. */
export const FLOAT = 1;
export const UINT8 = 2;
export const INT8 = 3;
export const FLOAT16 = 10;

export interface Weight {
  type: number;
  dims: number[];
  bytes: Bytes;
}

export interface Graph {
  /** The metadata `insitu.encoder` (py/insitu/model/graph.py); undefined where it is missing. */
  encoder: Record<string, unknown> | undefined;
  weights: Map<string, Weight>;
}

/** A field of length-delimited bytes, or a number. */
type Field = readonly [number: number, value: Bytes | number];

/** Throws a RangeError or SyntaxError where the file is no ONNX. */
export function readGraph(file: Bytes): Graph {
  const weights = new Map<string, Weight>();
  let encoder: Graph["encoder"];
  for (const [number, value] of fields(file)) {
    if (typeof value === "number") continue;
    if (number === 7) {
      for (const [inner, part] of fields(value)) {
        if (inner !== 5 || typeof part === "number") continue;
        const { name, ...weight } = tensor(part);
        weights.set(name, weight);
      }
    } else if (number === 14) {
      const entry = new Map(fields(value));
      if (text(entry.get(1)) === "insitu.encoder") encoder = JSON.parse(text(entry.get(2))) as Graph["encoder"];
    }
  }
  return { encoder, weights };
}

function tensor(message: Bytes): Weight & { name: string } {
  const found: Weight & { name: string } = { name: "", type: 0, dims: [], bytes: new Uint8Array() };
  for (const [number, value] of fields(message)) {
    if (number === 1) found.dims.push(...(typeof value === "number" ? [value] : varints(value)));
    else if (number === 2) found.type = value as number;
    else if (number === 8) found.name = text(value);
    else if (number === 9) found.bytes = value as Bytes;
  }
  return found;
}

function* fields(message: Bytes): Generator<Field> {
  const at = { value: 0 };
  while (at.value < message.length) {
    const key = varint(message, at);
    const kind = key & 7;
    if (kind === 0) {
      yield [key >>> 3, varint(message, at)];
      continue;
    }
    const length = kind === 2 ? varint(message, at) : kind === 1 ? 8 : kind === 5 ? 4 : NaN;
    if (!(at.value + length <= message.length)) throw new RangeError("a field ends behind the file");
    yield [key >>> 3, message.subarray(at.value, (at.value += length))];
  }
}

function varint(message: Bytes, at: { value: number }): number {
  let result = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = message[at.value++];
    if (byte === undefined) throw new RangeError("a number ends behind the file");
    result += (byte & 127) * factor;
    if (byte < 128) return result;
  }
}

function varints(packed: Bytes): number[] {
  const at = { value: 0 };
  const numbers = [];
  while (at.value < packed.length) numbers.push(varint(packed, at));
  return numbers;
}

function text(value: Bytes | number | undefined): string {
  return new TextDecoder().decode(value as Bytes);
}
