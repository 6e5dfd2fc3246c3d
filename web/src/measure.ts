// How fast this device scans: what `dim: "auto"` goes by. See `insitu.auto`.

import type { Scanner } from "./scan.ts";
import { DEVICE, type Store } from "./store.ts";

/** Vectors of one shard that is laid out again and again: 16 MB in all, more than second caches hold. */
const SHARD = 8192;
const SHARDS = 16;
const DIM = 128;
/** Where browsers do not tell (Firefox, Safari), in GiB: a tab that takes more than its share is killed on a telephone. */
const UNKNOWN_MEMORY = 2;

/**
 * [bytes of codes that the kernel scans in a millisecond, bytes of memory]. The first is measured once for a browser and a
 * kernel, in about 50 ms, and kept.
 */
export async function measureDevice(scanner: Scanner, store: Store): Promise<[number, number]> {
  const { deviceMemory = UNKNOWN_MEMORY } = navigator as { deviceMemory?: number };
  const key = `${DEVICE}/scan-${scanner.name}-${encodeURIComponent(navigator.userAgent)}`;
  const kept = await store.get(key);
  let [speed] = kept ? new Float64Array(kept.bytes.buffer) : [];
  if (!speed) {
    speed = scanSpeed(scanner.another());
    await store.put(key, new Uint8Array(Float64Array.of(speed).buffer));
  }
  return [speed, deviceMemory * 2 ** 30];
}

/** Of random vectors, as equal ones would all be among the best. The least of five: other work makes a scan slower only. */
function scanSpeed(scanner: Scanner): number {
  const codes = scanner.reserve(SHARDS * SHARD, DIM);
  const shard = new Uint8Array(SHARD * (DIM + 4));
  for (let i = 0; i < SHARD * DIM; i++) shard[i] = 256 * Math.random();
  new Float32Array(shard.buffer, SHARD * DIM).fill(1);
  for (let i = 0; i < SHARDS; i++) scanner.append(codes, i * SHARD, shard);
  const query = { codes: Int16Array.from({ length: DIM }, () => 32_512 * (Math.random() - 0.5)), scale: 1 };
  let least = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    for (let i = 0; i < 4; i++) scanner.scan(query, codes, 10); // several, as some browsers' clocks tick in milliseconds
    least = Math.min(least, Math.max((performance.now() - start) / 4, 0.1));
  }
  return (SHARDS * SHARD * DIM) / least;
}
