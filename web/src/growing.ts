import type { Bytes } from "./download.ts";
import type { Codes, Scanner } from "./scan.ts";

/** Vectors of a collection: codes that grow and may be buried, in a kernel memory of their own. */
export class GrowingCodes implements Codes {
  count = 0;
  #held: Codes;

  constructor(
    readonly scanner: Scanner,
    readonly dim: number,
  ) {
    this.#held = scanner.reserve(0, dim);
  }

  get codes(): number {
    return this.#held.codes;
  }

  get scales(): number {
    return this.#held.scales;
  }

  get stride(): number {
    return this.#held.stride;
  }

  /** Add the vectors of a shard (n x dim int8, then n float32). */
  append(shard: Bytes): void {
    const count = this.count + shard.length / (this.dim + 4);
    // The eighth more that is held ready costs 17 bytes a vector, and spares a move at most puts.
    if (count > this.#held.count) this.#held = this.scanner.widen(this.#held, count + (this.count >> 3));
    this.count += this.scanner.append(this.#held, this.count, shard);
  }

  /** These vectors are found no more: a scale that is no number is never above another score. */
  bury(positions: Int32Array): void {
    this.scanner.bury(this.#held, positions);
  }
}
