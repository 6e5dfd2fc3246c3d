// Attention of ragged texts: rows of several texts lie one after another, each sees its own text (or a window of it).

import { PANEL } from "../ops";
import { madd4 } from "./lanes";
import { softmax } from "./rows";

/** Far below any score: what a token does not see. */
const UNSEEN: f32 = -1e30;

/** Where the keys (or values) of a head begin: texts are padded to whole panels, `pads` says where each begins. */
// @ts-ignore: decorator
@inline
function place(base: usize, pads: usize, text: i32, head: i32, heads: i32, size: i32): usize {
  const start = load<i32>(pads + (<usize>text << 2));
  const rows = load<i32>(pads + (<usize>(text + 1) << 2)) - start;
  return base + ((<usize>(start * heads + head * rows) * <usize>size) << 2);
}

/**
 * Lay keys and values out for `attend`: keys in panels of eight tokens, [tokens / 8][size][8], values in panels of eight
 * channels, [size / 8][tokens][8]; zeros where a text ends inside a panel.
 *
 * `k`, `v`: the first head of row 0, rows `stride` bytes apart. `bounds`: int32, the first row of each text (texts + 1), then the same
 * with each text padded to a multiple of eight.
 */
export function spread(
  k: usize, v: usize, stride: usize, bounds: usize, texts: i32, heads: i32, size: i32, keys: usize, values: usize,
  thread: i32, threads: i32,
): void {
  const pads = bounds + (<usize>(texts + 1) << 2);
  const panels = size / PANEL;
  const first = ((panels * thread) / threads) * PANEL;
  const last = ((panels * (thread + 1)) / threads) * PANEL;
  for (let text = 0; text < texts; text++) {
    const start = load<i32>(bounds + (<usize>text << 2));
    const count = load<i32>(bounds + (<usize>(text + 1) << 2)) - start;
    const padded = load<i32>(pads + (<usize>(text + 1) << 2)) - load<i32>(pads + (<usize>text << 2));
    for (let head = 0; head < heads; head++) {
      const toKeys = place(keys, pads, text, head, heads, size);
      const toValues = place(values, pads, text, head, heads, size);
      for (let row = 0; row < padded; row++) {
        const from = <usize>(start + row) * stride + ((<usize>head * <usize>size) << 2);
        const column = toKeys + ((<usize>(row / PANEL) * <usize>size * PANEL + <usize>(row % PANEL)) << 2);
        for (let i = first; i < last; i++) {
          store<f32>(column + ((<usize>i * PANEL) << 2), row < count ? load<f32>(k + from + (<usize>i << 2)) : 0);
        }
        for (let i = first; i < last; i += PANEL) {
          const to = toValues + ((<usize>(i / PANEL) * <usize>padded + <usize>row) << 5);
          const there = row < count;
          v128.store(to, there ? v128.load(v + from + (<usize>i << 2)) : f32x4.splat(0));
          v128.store(to, there ? v128.load(v + from + (<usize>i << 2), 16) : f32x4.splat(0), 16);
        }
      }
    }
  }
}

/**
 * Up to four rows of float32 times one panel: out[r][0..8] = sum over i < length of a[r][i] * panel[i][0..8].
 *
 * `step` and `outStep`: bytes from row to row of `a` and of `out`; `count`: rows, 1 to 4.
 */
export function tile(
  a: usize, step: usize, count: i32, panel: usize, length: i32, out: usize, outStep: usize,
): void {
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  const end = panel + (<usize>length << 5);
  // A row that is not there is the first one once more, and is stored before it at its place.
  let a1 = count > 1 ? a + step : a;
  let a2 = count > 2 ? a + 2 * step : a;
  let a3 = count > 3 ? a + 3 * step : a;
  while (panel < end) {
    const low = v128.load(panel);
    const high = v128.load(panel, 16);
    let x = v128.load_splat<f32>(a);
    s00 = madd4(x, low, s00);
    s01 = madd4(x, high, s01);
    x = v128.load_splat<f32>(a1);
    s10 = madd4(x, low, s10);
    s11 = madd4(x, high, s11);
    x = v128.load_splat<f32>(a2);
    s20 = madd4(x, low, s20);
    s21 = madd4(x, high, s21);
    x = v128.load_splat<f32>(a3);
    s30 = madd4(x, low, s30);
    s31 = madd4(x, high, s31);
    panel += 32;
    a += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
  }
  const o1 = count > 1 ? out + outStep : out;
  const o2 = count > 2 ? out + 2 * outStep : out;
  const o3 = count > 3 ? out + 3 * outStep : out;
  v128.store(o3, s30);
  v128.store(o3, s31, 16);
  v128.store(o2, s20);
  v128.store(o2, s21, 16);
  v128.store(o1, s10);
  v128.store(o1, s11, 16);
  v128.store(out, s00);
  v128.store(out, s01, 16);
}

/**
 * out[t] = sum over the tokens u of the text of t, at most `reach` away, of softmax(q[t] . k[u] * scale) * v[u], for each head.
 *
 * `q`, `out`: the first head of row 0, rows `qStride` and `outStride` bytes apart; `keys`, `values`, `bounds`: see `spread`; `heads`
 * query heads share `kvHeads`, those that follow each other the same one. `scratch`: four padded texts of float32 for each thread,
 * `scratchBytes` apart. Threads take tiles of four tokens of a head in turns.
 */
export function attend(
  q: usize, qStride: usize, keys: usize, values: usize, bounds: usize, texts: i32, heads: i32, kvHeads: i32, size: i32,
  scale: f32, reach: i32, out: usize, outStride: usize, scratch: usize, scratchBytes: usize, thread: i32, threads: i32,
): void {
  const pads = bounds + (<usize>(texts + 1) << 2);
  const scores = scratch + <usize>thread * scratchBytes;
  const group = heads / kvHeads;
  let item = 0;
  for (let text = 0; text < texts; text++) {
    const start = load<i32>(bounds + (<usize>text << 2));
    const count = load<i32>(bounds + (<usize>(text + 1) << 2)) - start;
    const padded = load<i32>(pads + (<usize>(text + 1) << 2)) - load<i32>(pads + (<usize>text << 2));
    for (let head = 0; head < heads; head++) {
      const headKeys = place(keys, pads, text, head / group, kvHeads, size);
      const headValues = place(values, pads, text, head / group, kvHeads, size);
      const offset = (<usize>head * <usize>size) << 2;
      for (let row = 0; row < count; row += 4) {
        if (item++ % threads != thread) continue;
        const rows = min(4, count - row);
        const from = max(0, row - reach) & ~(PANEL - 1);
        const to = min(padded, (row + rows - 1 + reach + PANEL) & ~(PANEL - 1));
        const width = to - from;
        const stride = <usize>width << 2;
        const queries = q + <usize>(start + row) * qStride + offset;
        for (let at = 0; at < width; at += PANEL) {
          const panel = headKeys + ((<usize>(from + at) * <usize>size) << 2);
          tile(queries, qStride, rows, panel, size, scores + (<usize>at << 2), stride);
        }
        const result = out + <usize>(start + row) * outStride + offset;
        let f0: f32 = 0;
        let f1: f32 = 0;
        let f2: f32 = 0;
        let f3: f32 = 0;
        for (let i = 0; i < rows; i++) {
          const mine = scores + <usize>i * stride;
          const lowest = max(0, row + i - reach) - from;
          const highest = min(count, row + i + reach + 1) - from;
          for (let j = 0; j < lowest; j++) store<f32>(mine + (<usize>j << 2), UNSEEN);
          for (let j = highest; j < width; j++) store<f32>(mine + (<usize>j << 2), UNSEEN);
          const factor = <f32>1 / softmax(mine, width, scale);
          if (i == 0) f0 = factor;
          else if (i == 1) f1 = factor;
          else if (i == 2) f2 = factor;
          else f3 = factor;
        }
        for (let channel = 0; channel < size; channel += PANEL) {
          const panel = headValues + ((<usize>channel * <usize>padded + <usize>(from * PANEL)) << 2);
          const at = result + (<usize>channel << 2);
          tile(scores, stride, rows, panel, width, at, outStride);
          times(at, f0);
          if (rows > 1) times(at + outStride, f1);
          if (rows > 2) times(at + 2 * outStride, f2);
          if (rows > 3) times(at + 3 * outStride, f3);
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function times(at: usize, factor: f32): void {
  v128.store(at, f32x4.mul(v128.load(at), f32x4.splat(factor)));
  v128.store(at, f32x4.mul(v128.load(at, 16), f32x4.splat(factor)), 16);
}
