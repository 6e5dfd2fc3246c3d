// Clusters of many vectors, so that a scan need not look at all. Derived from codes in memory, made beside other work, never
// stored. Mini-batch k-means on directions, with the kernel for all products.

import { coarse, turn, type Codes, type Found, type Query, type Scanner } from "./scan.ts";

/** Below that an exact scan is quick enough: DESIGN.md, "The scan". */
export const LEAST_ROWS = 1 << 20;
/**
 * Clusters are looked at as many as hold so much of the true best ten of some vectors, times `WIDER`: questions lie further
 * from passages than these from each other. Where passages come in tight groups that says too little, and `LEAST` of all
 * are looked at (DESIGN.md, "The scan").
 */
const TARGET = 0.98;
const WIDER = 2;
const LEAST = 1 / 20;
const BATCH = 4096;
const BATCHES = 40;
const SAMPLE = 64;
const BEST = 10;
/** Rows of one piece of work: a few milliseconds. */
const PIECE = 256;

export class Clusters {
  /** Rows that are in clusters; later ones are all looked at. */
  readonly count: number;
  /** How many clusters a query looks at, best first. */
  probes = 1;
  readonly #scanner: Scanner; // of the centroids
  readonly #centroids: Codes;
  /** Positions by cluster, and where each cluster starts. */
  #rows = new Int32Array(0);
  #starts: Int32Array;

  private constructor(
    private readonly of: Codes,
    private readonly kernel: Scanner,
    number: number,
  ) {
    this.count = of.count;
    this.#scanner = kernel.another();
    this.#centroids = this.#scanner.reserve(number, of.dim);
    this.#starts = new Int32Array(number + 1);
  }

  /** Of all of `of`, which may grow meanwhile. */
  static async of(of: Codes, kernel: Scanner): Promise<Clusters> {
    const found = new Clusters(of, kernel, Math.max(1, Math.floor(Math.sqrt(of.count))));
    await found.#train();
    const near = await found.#nearest(of.count, (i) => i);
    found.#sort(near);
    await found.#measure(near);
    return found;
  }

  /** As `Scanner.scan`, of the nearest clusters and of all rows that are in none. */
  search(query: Query, k: number): Found {
    let [parts, size] = this.#nearby(query, this.probes);
    for (let more = 2 * this.probes; size < Math.min(k, this.count); more *= 2) {
      [parts, size] = this.#nearby(query, more);
    }
    const late = this.of.count - this.count;
    const among = new Int32Array(size + late);
    let at = 0;
    for (const part of parts) {
      among.set(part, at);
      at += part.length;
    }
    for (let i = 0; i < late; i++) among[at + i] = this.count + i;
    return this.kernel.scan(query, this.of, k, among);
  }

  /** The rows of the nearest clusters, and how many they are. */
  #nearby(query: Query, probes: number): [parts: Int32Array[], size: number] {
    const clusters = this.#scanner.scan(query, this.#centroids, probes).positions;
    const parts = Array.from(clusters, (at) => this.#rows.subarray(this.#starts[at], this.#starts[at + 1]));
    return [parts, parts.reduce((sum, { length }) => sum + length, 0)];
  }

  async #train(): Promise<void> {
    const { dim } = this.of;
    const number = this.#centroids.count;
    const centroids = new Float32Array(number * dim);
    const seen = new Float64Array(number);
    const some = (): number => Math.floor(Math.random() * this.count);
    for (let i = 0; i < number; i++) this.#add(centroids, i, some(), 1);
    this.#place(centroids);
    for (let batch = 0; batch < BATCHES; batch++) {
      const rows = Int32Array.from({ length: BATCH }, some);
      const near = await this.#nearest(BATCH, (i) => rows[i]!);
      // Each vector moves its centroid, the less the more have done so before (Sculley, 2010).
      near.forEach((cluster, i) => this.#add(centroids, cluster, rows[i]!, 1 / ++seen[cluster]!));
      this.#place(centroids);
    }
  }

  /** Move a centroid so far towards the direction of a row. */
  #add(centroids: Float32Array, cluster: number, row: number, share: number): void {
    const { codes } = this.kernel.row(this.of, row);
    const length = Math.sqrt(codes.reduce((sum, value) => sum + value * value, 0)) || 1;
    const at = cluster * codes.length;
    for (let j = 0; j < codes.length; j++) centroids[at + j]! += share * (codes[j]! / length - centroids[at + j]!);
  }

  /** Give the kernel the centroids as codes of unit vectors. */
  #place(centroids: Float32Array): void {
    const { count, dim } = this.#centroids;
    const shard = new Uint8Array(count * (dim + 4));
    const codes = new Int8Array(shard.buffer, 0, count * dim);
    const scales = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const row = centroids.subarray(i * dim, (i + 1) * dim);
      const most = row.reduce((best, value) => Math.max(best, Math.abs(value)), 0) || 1;
      row.forEach((value, j) => (codes[i * dim + j] = Math.round((127 * value) / most)));
      scales[i] = 1 / Math.sqrt(codes.subarray(i * dim, (i + 1) * dim).reduce((sum, value) => sum + value * value, 1));
    }
    shard.set(new Uint8Array(scales.buffer), count * dim);
    this.#scanner.append(this.#centroids, 0, shard);
  }

  /** The nearest cluster of each of `count` rows. */
  async #nearest(count: number, row: (i: number) => number): Promise<Int32Array> {
    const near = new Int32Array(count);
    for (let first = 0; first < count; first += PIECE) {
      const rows = Array.from({ length: Math.min(PIECE, count - first) }, (_, i) => this.#ask(row(first + i)));
      this.#scanner.scanAll(rows, this.#centroids, 1).forEach(({ positions }, i) => (near[first + i] = positions[0]!));
      await turn();
    }
    return near;
  }

  #ask(row: number): Query {
    return coarse(this.kernel.row(this.of, row).codes, 1);
  }

  #sort(near: Int32Array): void {
    for (const cluster of near) this.#starts[cluster + 1]!++;
    for (let i = 1; i < this.#starts.length; i++) this.#starts[i]! += this.#starts[i - 1]!;
    const next = this.#starts.slice();
    this.#rows = new Int32Array(near.length);
    near.forEach((cluster, i) => (this.#rows[next[cluster]!++] = i));
  }

  /** How many clusters, best first, hold `TARGET` of the best ten of some rows, each of which finds itself too. */
  async #measure(near: Int32Array): Promise<void> {
    const ranks: number[] = [];
    for (let i = 0; i < SAMPLE; i++) {
      const query = this.#ask(Math.floor(Math.random() * this.count));
      const order = this.#scanner.scan(query, this.#centroids, this.#centroids.count).positions;
      const rank = new Int32Array(order.length);
      order.forEach((cluster, at) => (rank[cluster] = at));
      const [found] = await this.kernel.scanLong([query], this.of, BEST + 1);
      for (const position of found!.positions) if (position < this.count) ranks.push(rank[near[position]!]!);
    }
    ranks.sort((a, b) => a - b);
    const measured = WIDER * (1 + (ranks[Math.floor(TARGET * ranks.length)] ?? 0));
    this.probes = Math.max(measured, Math.ceil(LEAST * this.#centroids.count));
  }
}
