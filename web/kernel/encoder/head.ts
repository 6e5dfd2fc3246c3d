// The end: from token states to a unit vector of the wanted size, and its int8 codes (py/insitu/model/head.py).

import { PANEL } from "../ops";
import { tile } from "./attention";
import { sum4 } from "./lanes";

/** texts x size: the mean of the rows of each text, or its first row. `starts`: int32 (texts + 1). Threads share the channels. */
export function pool(
  x: usize, starts: usize, texts: i32, size: i32, mean: bool, out: usize, thread: i32, threads: i32,
): void {
  const bytes = <usize>size << 2;
  const first = <usize>((size >> 2) * thread / threads) << 4;
  const last = <usize>((size >> 2) * (thread + 1) / threads) << 4;
  for (let text = 0; text < texts; text++) {
    const start = load<i32>(starts + (<usize>text << 2));
    const count = mean ? load<i32>(starts + (<usize>(text + 1) << 2)) - start : 1;
    const factor = f32x4.splat(1 / <f32>count);
    for (let i = first; i < last; i += 16) {
      let total = f32x4.splat(0);
      let at = x + <usize>start * bytes + i;
      for (let row = 0; row < count; row++, at += bytes) total = f32x4.add(total, v128.load(at));
      v128.store(out + <usize>text * bytes + i, f32x4.mul(total, factor));
    }
  }
}

/** rows x K times K x N in float32; `w` in panels [N / 8][K][8]. Threads share the panels. */
export function project(a: usize, w: usize, rows: i32, K: i32, N: i32, out: usize, thread: i32, threads: i32): void {
  const panels = N / PANEL;
  const last = (panels * (thread + 1)) / threads;
  for (let panel = (panels * thread) / threads; panel < last; panel++) {
    const from = w + ((<usize>panel * <usize>K * PANEL) << 2);
    const column = out + ((<usize>panel * PANEL) << 2);
    for (let row = 0; row < rows; row += 4) {
      const to = column + ((<usize>row * <usize>N) << 2);
      tile(a + ((<usize>row * <usize>K) << 2), <usize>K << 2, min(4, rows - row), from, K, to, <usize>N << 2);
    }
  }
}

/**
 * For each row of `x` (float32, rows x size): its first `dim` components as a unit vector to `vectors` (rows x dim), the int8 codes of these
 * to `codes` with a scale, and codes of the whole row to `fullCodes` with a scale. One thread does it.
 */
export function finish(
  x: usize, rows: i32, size: i32, dim: i32, vectors: usize, codes: usize, scales: usize, fullCodes: usize,
  fullScales: usize,
): void {
  for (let row: usize = 0; row < <usize>rows; row++) {
    const from = x + ((row * <usize>size) << 2);
    encode(from, unit(from, size), size, fullCodes + row * <usize>size, fullScales + (row << 2));
    const to = vectors + ((row * <usize>dim) << 2);
    const factor = unit(from, dim);
    for (let i: usize = 0; i < <usize>dim; i++) store<f32>(to + (i << 2), load<f32>(from + (i << 2)) * factor);
    encode(to, 1, dim, codes + row * <usize>dim, scales + (row << 2));
  }
}

/** 1 / the length of the first `count` components. */
function unit(x: usize, count: i32): f32 {
  let total = f32x4.splat(0);
  let i: usize = 0;
  for (; i + 4 <= <usize>count; i += 4) total = f32x4.add(total, f32x4.mul(v128.load(x + (i << 2)), v128.load(x + (i << 2))));
  let sum = sum4(total);
  for (; i < <usize>count; i++) sum += load<f32>(x + (i << 2)) * load<f32>(x + (i << 2));
  return 1 / sqrt<f32>(sum);
}

/** x * factor ~ codes * scale, codes -127 to 127. */
function encode(x: usize, factor: f32, count: i32, codes: usize, scale: usize): void {
  let largest: f32 = 0;
  for (let i: usize = 0; i < <usize>count; i++) largest = max(largest, abs(load<f32>(x + (i << 2))));
  largest *= factor;
  store<f32>(scale, largest / 127);
  for (let i: usize = 0; i < <usize>count; i++) {
    store<i8>(codes + i, <i8>nearest(load<f32>(x + (i << 2)) * factor / (largest / 127)));
  }
}
