// Steps that take rows of float32 one by one: each thread has a run of them.

import { exp2, max4, round4, sum4 } from "./lanes";

/** A row whose largest value is below this counts as one of zeros: as in the graph (py/insitu/model/linear.py). */
const TINY: f32 = 1e-9;

// @ts-ignore: decorator
@inline
function first(count: i32, thread: i32, threads: i32): i32 {
  return (count * thread) / threads;
}

/**
 * Token rows to states: out[t] = codes[t] * scales[t] (+ positions[place of t in its text]).
 *
 * `codes` int8 rows x size, `scales` float32; `positions` float32 or 0; `starts` int32 (texts + 1), the first row of each text.
 */
export function embed(
  codes: usize, scales: usize, positions: usize, starts: usize, texts: i32, size: i32, out: usize, thread: i32,
  threads: i32,
): void {
  const rows = load<i32>(starts + (<usize>texts << 2));
  let row = first(rows, thread, threads);
  const stop = first(rows, thread + 1, threads);
  let text = 0;
  for (; row < stop; row++) {
    while (load<i32>(starts + (<usize>(text + 1) << 2)) <= row) text++;
    const place = row - load<i32>(starts + (<usize>text << 2));
    const scale = v128.load_splat<f32>(scales + (<usize>row << 2));
    const from = codes + <usize>row * <usize>size;
    const to = out + ((<usize>row * <usize>size) << 2);
    const add = positions + ((<usize>place * <usize>size) << 2);
    for (let i: usize = 0; i < <usize>size; i += 4) {
      const four = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(from + i)));
      let value = f32x4.mul(f32x4.convert_i32x4_s(four), scale);
      if (positions) value = f32x4.add(value, v128.load(add + (i << 2)));
      v128.store(to + (i << 2), value);
    }
  }
}

/**
 * Layer normalisation of each row (Ba et al., 2016, arXiv:1607.06450), or with `bias` 0 that by the root mean square (Zhang &
 * Sennrich, 2019, arXiv:1910.07467). With `sum`, x is added to the rows there first, and these are normalised.
 */
export function norm(
  x: usize, sum: usize, gain: usize, bias: usize, out: usize, rows: i32, size: i32, epsilon: f32, thread: i32,
  threads: i32,
): void {
  const bytes = <usize>size << 2;
  const stop = first(rows, thread + 1, threads);
  for (let row = first(rows, thread, threads); row < stop; row++) {
    const offset = <usize>row * bytes;
    let from = x + offset;
    let total = f32x4.splat(0);
    let squares = f32x4.splat(0);
    for (let i: usize = 0; i < bytes; i += 16) {
      let value = v128.load(from + i);
      if (sum) {
        value = f32x4.add(value, v128.load(sum + offset + i));
        v128.store(sum + offset + i, value);
      }
      total = f32x4.add(total, value);
      squares = f32x4.add(squares, f32x4.mul(value, value));
    }
    if (sum) from = sum + offset;
    let mean = f32x4.splat(0);
    if (bias) {
      mean = f32x4.splat(sum4(total) / <f32>size);
      squares = f32x4.splat(0); // around the mean, in a second pass: the difference of two large sums would lose digits
      for (let i: usize = 0; i < bytes; i += 16) {
        const value = f32x4.sub(v128.load(from + i), mean);
        squares = f32x4.add(squares, f32x4.mul(value, value));
      }
    }
    const scale = f32x4.splat(1 / sqrt<f32>(sum4(squares) / <f32>size + epsilon));
    for (let i: usize = 0; i < bytes; i += 16) {
      let value = f32x4.mul(f32x4.mul(f32x4.sub(v128.load(from + i), mean), scale), v128.load(gain + i));
      if (bias) value = f32x4.add(value, v128.load(bias + i));
      v128.store(out + offset + i, value);
    }
  }
}

/**
 * Rows to integers with a scale each: x ~ codes * scale - floor, the largest code is `levels` (of either sign if `floor` is 0).
 *
 * `smoothing` (float32, size, or 0) multiplies the channels first. `out` int16 rows x size, or with `bytes` the lower halves of
 * these plus `offset`; `scales` float32.
 */
export function quantise(
  x: usize, smoothing: usize, floor: f32, levels: f32, bytes: bool, offset: i32, out: usize, scales: usize, rows: i32,
  size: i32, thread: i32, threads: i32,
): void {
  const length = <usize>size << 2;
  const more = i16x8.splat(<i16>offset);
  const lower = i16x8.splat(255);
  const stop = first(rows, thread + 1, threads);
  const shift = f32x4.splat(floor);
  for (let row = first(rows, thread, threads); row < stop; row++) {
    const from = x + <usize>row * length;
    const to = out + ((<usize>row * <usize>size) << (bytes ? 0 : 1));
    let most = f32x4.splat(TINY);
    let total = f32x4.splat(0);
    for (let i: usize = 0; i < length; i += 16) {
      let value = v128.load(from + i);
      if (smoothing) value = f32x4.mul(value, v128.load(smoothing + i));
      most = f32x4.pmax(most, floor ? f32x4.add(value, shift) : f32x4.abs(value));
      total = f32x4.add(total, value);
    }
    const largest = max4(most);
    // `pmax` passes over what is no number, and integers cannot tell it: the scale does, so that it comes out at the end.
    const sum = sum4(total);
    store<f32>(scales + (<usize>row << 2), sum == sum ? largest / levels : sum);
    const factor = f32x4.splat(levels / largest);
    for (let i: usize = 0; i < length; i += 32) {
      let low = v128.load(from + i);
      let high = v128.load(from + i, 16);
      if (smoothing) {
        low = f32x4.mul(low, v128.load(smoothing + i));
        high = f32x4.mul(high, v128.load(smoothing + i, 16));
      }
      low = round4(f32x4.mul(f32x4.add(low, shift), factor));
      high = round4(f32x4.mul(f32x4.add(high, shift), factor));
      const eight = i16x8.narrow_i32x4_s(low, high);
      if (bytes) {
        const halves = v128.and(i16x8.add(eight, more), lower);
        v128.store64_lane(to + (i >> 2), i8x16.narrow_i16x8_u(halves, halves), 0);
      } else v128.store(to + (i >> 1), eight);
    }
  }
}

/**
 * Normalise each head of queries or keys by its root mean square, then turn it by its place in the text (rotary position
 * embedding: Su et al., 2021, arXiv:2104.09864), halves against each other. In place.
 *
 * `x`: the first head of row 0; rows lie `stride` bytes apart; `cosines` and `sines`: float32, places x size / 2.
 */
export function turn(
  x: usize, stride: usize, heads: i32, size: i32, gain: usize, epsilon: f32, cosines: usize, sines: usize,
  starts: usize, texts: i32, thread: i32, threads: i32,
): void {
  const rows = load<i32>(starts + (<usize>texts << 2));
  const half = <usize>size << 1;
  const stop = first(rows, thread + 1, threads);
  let text = 0;
  for (let row = first(rows, thread, threads); row < stop; row++) {
    while (load<i32>(starts + (<usize>(text + 1) << 2)) <= row) text++;
    const place = <usize>(row - load<i32>(starts + (<usize>text << 2)));
    const cosine = cosines + place * half;
    const sine = sines + place * half;
    for (let head = 0; head < heads; head++) {
      const at = x + <usize>row * stride + ((<usize>head * <usize>size) << 2);
      let squares = f32x4.splat(0);
      for (let i: usize = 0; i < 2 * half; i += 16) {
        const value = v128.load(at + i);
        squares = f32x4.add(squares, f32x4.mul(value, value));
      }
      const scale = f32x4.splat(1 / sqrt<f32>(sum4(squares) / <f32>size + epsilon));
      for (let i: usize = 0; i < half; i += 16) {
        const low = f32x4.mul(f32x4.mul(v128.load(at + i), scale), v128.load(gain + i));
        const high = f32x4.mul(f32x4.mul(v128.load(at + i + half), scale), v128.load(gain + i + half));
        const c = v128.load(cosine + i);
        const s = v128.load(sine + i);
        v128.store(at + i, f32x4.sub(f32x4.mul(low, c), f32x4.mul(high, s)));
        v128.store(at + i + half, f32x4.add(f32x4.mul(high, c), f32x4.mul(low, s)));
      }
    }
  }
}

/** In place: e^((x - the largest) * scale) for `count` floats, a multiple of 8. Returns their sum. */
export function softmax(x: usize, count: i32, scale: f32): f32 {
  const end = x + (<usize>count << 2);
  let most = v128.load(x);
  for (let at = x; at < end; at += 32) most = f32x4.pmax(most, f32x4.pmax(v128.load(at), v128.load(at, 16)));
  const largest = f32x4.splat(max4(most));
  const factor = f32x4.splat(scale * 1.44269504); // 1 / ln 2
  let total = f32x4.splat(0);
  for (let at = x; at < end; at += 16) {
    const value = exp2(f32x4.mul(f32x4.sub(v128.load(at), largest), factor));
    v128.store(at, value);
    total = f32x4.add(total, value);
  }
  return sum4(total);
}
