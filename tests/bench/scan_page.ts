// The scan kernel of the page, alone: how long it takes, and what it finds. Bundled and opened by scan.py.
import { Scanner, fine, type Codes, type Query } from "../../web/src/scan.ts";

let scanner: Scanner;
let codes: Codes;
let queries: Query[];

/** `vectors`: URL of a shard (n x dim int8, then n float32). `queries`: URL of n x dim float32. */
async function load(options: { base: string; vectors: string; queries: string; dim: number; count: number }) {
  scanner = await Scanner.open((file) => new URL(file, options.base).href);
  codes = scanner.reserve(options.count, options.dim);
  scanner.append(codes, 0, await bytes(options.vectors));
  const asked = new Float32Array((await bytes(options.queries)).buffer);
  const count = asked.length / options.dim;
  queries = Array.from({ length: count }, (_, i) => fine(asked.subarray(i * options.dim, (i + 1) * options.dim)));
  return scanner.name;
}

/** Milliseconds of each of `rounds` scans, and the `k` positions found for every query. */
function scan(rounds: number, k: number) {
  const found = queries.map((query) => Array.from(scanner.scan(query, codes, k).positions));
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const query = queries[i % queries.length]!;
    const start = performance.now();
    scanner.scan(query, codes, k);
    times.push(performance.now() - start);
  }
  return { times, found };
}

async function bytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}

Object.assign(globalThis, { bench: { load, scan } });
