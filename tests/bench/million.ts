// A million vectors in the page: the exact scan of all, and the clusters that answer by default. Bundled and opened by million.py.
import { GrowingCodes } from "../../web/src/growing.ts";
import { Scanner, fine } from "../../web/src/scan.ts";

/** The page's input has files: shards of vectors (n x dim int8, then n float32). queries.bin: n x dim float32. */
async function measure(options: { base: string; dim: number; count: number; k: number }) {
  const { base, dim, count, k } = options;
  const scanner = await Scanner.open((file) => new URL(file, base).href);
  const asked = new Float32Array((await bytes("/million/queries.bin")).buffer);
  const queries = Array.from({ length: asked.length / dim }, (_, i) => fine(asked.subarray(i * dim, (i + 1) * dim)));
  const held = new GrowingCodes(scanner, dim);
  Object.assign(globalThis, { held }); // its memory is measured afterwards
  for (const file of document.querySelector("input")!.files!) held.append(new Uint8Array(await file.arrayBuffer()));
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

async function bytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}

Object.assign(globalThis, { bench: { measure } });
