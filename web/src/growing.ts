import type { Bytes } from "./download.ts";
import { Clusters, LEAST_ROWS } from "./clusters.ts";
import type { Codes, Found, Query, Scanner } from "./scan.ts";

/** Vectors of a collection: codes that grow and may be buried, in a kernel memory of their own. */
export class GrowingCodes implements Codes {
  count = 0;
  #held: Codes;
  #clusters: Clusters | undefined;
  #training = false;

  /** From `clustered` vectors on, clusters are made. */
  constructor(
    readonly scanner: Scanner,
    readonly dim: number,
    private readonly clustered = LEAST_ROWS,
  ) {
    this.#held = scanner.reserve(0, dim);
  }

  get codes(): number {
    return this.#held.codes;
  }

  get lower(): number {
    return this.#held.lower;
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

  /** The best of the nearest clusters; undefined while there are none: until they are made, a scan looks at all vectors. */
  near(query: Query, k: number): Found | undefined {
    const stale = !this.#clusters || this.count > 2 * this.#clusters.count;
    if (this.count >= this.clustered && stale && !this.#training) {
      this.#training = true;
      Clusters.of(this, this.scanner)
        .then((clusters) => (this.#clusters = clusters))
        .catch((error: unknown) => console.warn(`insitu: no clusters: ${String(error)}`)) // then none are tried again
        .then(() => (this.#training = !this.#clusters));
    }
    return this.#clusters?.search(query, k);
  }
}
