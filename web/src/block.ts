import type { Outputs } from "./device.ts";
import { coarse, fine, type Query } from "./scan.ts";

/** Vectors of `count` texts, filled batch by batch. See `insitu.runtime.Block`. */
export class Block {
  readonly vectors: Float32Array<ArrayBuffer>;
  readonly codes: Int8Array<ArrayBuffer>;
  readonly scales: Float32Array<ArrayBuffer>;
  readonly fullCodes: Int8Array<ArrayBuffer>;
  readonly fullScales: Float32Array<ArrayBuffer>;

  constructor(
    readonly count: number,
    readonly dim: number,
    readonly fullDim: number,
  ) {
    this.vectors = new Float32Array(count * dim);
    this.codes = new Int8Array(count * dim);
    this.scales = new Float32Array(count);
    this.fullCodes = new Int8Array(count * fullDim);
    this.fullScales = new Float32Array(count);
  }

  /** Row i of each array goes to row `positions[i]`. */
  write(positions: Int32Array, { vectors, codes, scales, fullCodes, fullScales }: Outputs): void {
    const { dim, fullDim } = this;
    positions.forEach((to, from) => {
      this.vectors.set(vectors.subarray(from * dim, (from + 1) * dim), to * dim);
      this.codes.set(codes.subarray(from * dim, (from + 1) * dim), to * dim);
      this.scales[to] = scales[from]!;
      this.fullCodes.set(fullCodes.subarray(from * fullDim, (from + 1) * fullDim), to * fullDim);
      this.fullScales[to] = fullScales[from]!;
    });
  }

  /** Row 0 as a query: as long as the vector, or at full size, of which there are codes only. */
  query(full: boolean): Query {
    if (full) return coarse(this.fullCodes.subarray(0, this.fullDim), this.fullScales[0]!);
    return fine(this.vectors.subarray(0, this.dim));
  }

  /** All vectors as little-endian bytes, row after row. */
  vectorBytes(): Uint8Array {
    return new Uint8Array(this.vectors.buffer);
  }

  /** All codes, then their scales: the layout of a shard. */
  codeBytes(full: boolean): Uint8Array {
    const [codes, scales] = full ? [this.fullCodes, this.fullScales] : [this.codes, this.scales];
    const bytes = new Uint8Array(codes.byteLength + scales.byteLength);
    bytes.set(new Uint8Array(codes.buffer));
    bytes.set(new Uint8Array(scales.buffer), codes.byteLength);
    return bytes;
  }
}
