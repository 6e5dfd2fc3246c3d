// A million vectors in the page: the exact scan of all, and the clusters that answer by default. Bundled and opened by million.py.
import { GrowingCodes } from "../../web/src/growing.ts";
import { Scanner, fine } from "../../web/src/scan.ts";

const PIECE = 1 << 16;

/** `vectors`: URL of a shard of real vectors (n x dim int8, then n float32); `queries`: of n x dim float32. */
async function measure(options: { base: string; dim: number; count: number; noise: number; k: number }) {
  const { base, dim, count, noise, k } = options;
  const scanner = await Scanner.open((file) => new URL(file, base).href);
  const real = await bytes("/million/vectors.bin");
  const asked = new Float32Array((await bytes("/million/queries.bin")).buffer);
  const queries = Array.from({ length: asked.length / dim }, (_, i) => fine(asked.subarray(i * dim, (i + 1) * dim)));
  const held = new GrowingCodes(scanner, dim);
  Object.assign(globalThis, { held }); // its memory is measured afterwards
  for (let done = 0; done < count; done += PIECE) held.append(like(real, dim, Math.min(PIECE, count - done), noise));
  const exact = [];
  const [long, near] = [[] as number[], [] as number[]];
  for (const query of queries) {
    const start = performance.now();
    exact.push([...scanner.scan(query, held, k).positions]);
    long.push(performance.now() - start);
  }
  const start = performance.now();
  while (!held.near(queries[0]!, k)) await new Promise((done) => setTimeout(done, 20));
  const trained = performance.now() - start;
  let [found, looked] = [0, 0];
  const scan = scanner.scan.bind(scanner);
  scanner.scan = (query, codes, k, among) => (among && (looked += among.length), scan(query, codes, k, among));
  queries.forEach((query, i) => {
    const start = performance.now();
    const best = held.near(query, k)!.positions;
    near.push(performance.now() - start);
    found += best.filter((at) => exact[i]!.includes(at)).length;
  });
  return {
    kernel: scanner.name,
    long,
    near,
    trained,
    recall: found / k / queries.length,
    looked: looked / count / queries.length,
  };
}

/** Vectors drawn from real ones, each moved by noise of so large a share of its own length, and made unit vectors again. */
function like(real: Uint8Array, dim: number, count: number, noise: number): Uint8Array<ArrayBuffer> {
  const from = real.length / (dim + 4);
  const rows = new Int8Array(real.buffer);
  const shard = new Uint8Array(count * (dim + 4));
  const codes = new Int8Array(shard.buffer, 0, count * dim);
  const scales = new Float32Array(count);
  const row = new Float32Array(dim);
  for (let i = 0; i < count; i++) {
    const at = Math.floor(Math.random() * from) * dim;
    let length = 0;
    for (let j = 0; j < dim; j++) length += rows[at + j]! ** 2;
    // A sum of three even draws is nearly a Gaussian one, of standard deviation 1.
    const step = (noise * Math.sqrt(length)) / Math.sqrt(dim);
    for (let j = 0; j < dim; j++)
      row[j] = rows[at + j]! + step * 2 * (Math.random() + Math.random() + Math.random() - 1.5);
    const most = row.reduce((best, value) => Math.max(best, Math.abs(value)), 0);
    const size = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    for (let j = 0; j < dim; j++) codes[i * dim + j] = Math.round((127 * row[j]!) / most);
    scales[i] = most / 127 / size;
  }
  shard.set(new Uint8Array(scales.buffer), count * dim);
  return shard;
}

async function bytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}

Object.assign(globalThis, { bench: { measure } });
