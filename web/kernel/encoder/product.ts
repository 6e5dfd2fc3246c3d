// Matrix products of integers: rows of activations (int16) with panels of weights (int8, or blocks of 8 or 4 bits).
//
// `i32x4.dot_i16x8_s` multiplies pairs: a lane of a tile is one column, and takes two channels at a time. So a panel holds,
// for each pair of channels, its eight columns with two weights each, and a row its channels as they come. A tile is four
// rows by eight columns: eight sums, two vectors of weights and one of activations fit the sixteen registers of x86.
// Each thread has its own panels. Rows are taken in runs that stay in the cache while panels pass by.
//
// Where the dot product of relaxed SIMD is exact for all bytes (AVX-VNNI, SDOT), it takes four channels at a time, and a panel
// holds for each four channels its eight columns with four weights each. Activations are bytes then.

import { BLOCK, Bytes, PANEL, Then } from "../ops";
import { dot4, gelu4, half4, madd4 } from "./lanes";

/** Rows of a run: 64 rows of 3,072 channels are 0.4 MB. */
const RUN = 64;

// @ts-ignore: decorator
@inline
function add(sum: v128, a: v128, b: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(a, b));
}

/** Which thread this instance of the kernel is: whatever it shares a step with, it has a panel of its own in `room`. */
let self: i32 = 0;

export function be(thread: i32): void {
  self = thread;
}

// What the sums of a tile become, set by `product` for `put`.
let then: i32 = 0;
let out: usize = 0;
let outStride: usize = 0;
let other: usize = 0;

/** Store the eight columns from `n` on of one row: `low` and `high` are four sums each, bias included. */
// @ts-ignore: decorator
@inline
function put(row: i32, n: i32, low: v128, high: v128): void {
  if (then == Then.gatedGelu) {
    v128.store(out + <usize>row * outStride + (<usize>n << 1), f32x4.mul(gelu4(low), high));
    return;
  }
  const at = <usize>row * outStride + (<usize>n << 2);
  if (then == Then.gelu) {
    low = gelu4(low);
    high = gelu4(high);
  } else if (then == Then.add) {
    low = f32x4.add(low, v128.load(other + at));
    high = f32x4.add(high, v128.load(other + at, 16));
  }
  v128.store(out + at, low);
  v128.store(out + at, high, 16);
}

// @ts-ignore: decorator
@inline
function scaled(sum: v128, scale: v128, weights: v128, bias: v128): v128 {
  return madd4(f32x4.convert_i32x4_s(sum), f32x4.mul(scale, weights), bias);
}

/** Eight sums of one row become floats, with their scales and the bias, and are stored. */
// @ts-ignore: decorator
@inline
function end(row: i32, n: i32, low: v128, high: v128, aScales: usize, wScales: usize, bias: usize): void {
  const at = <usize>n << 2;
  const zero = f32x4.splat(0);
  const scale = v128.load_splat<f32>(aScales + (<usize>row << 2));
  low = scaled(low, scale, v128.load(wScales + at), bias ? v128.load(bias + at) : zero);
  high = scaled(high, scale, v128.load(wScales + at, 16), bias ? v128.load(bias + at, 16) : zero);
  put(row, n, low, high);
}

/**
 * What bytes are to `dot4` here: see `Bytes`. The specification leaves open what a byte above 127 counts, and whether sums of pairs
 * stop at 16 bits; a machine does it one way. `at`: 32 bytes of room, so that the compiler cannot know.
 */
export function byteKind(at: usize): i32 {
  if (!ASC_FEATURE_RELAXED_SIMD) return Bytes.inexact;
  v128.store(at, i8x16.splat(-127));
  v128.store(at, i8x16.splat(-1), 16);
  const sum = i32x4.extract_lane(dot4(v128.load(at), v128.load(at, 16), i32x4.splat(7)), 2);
  if (sum == 7 - 4 * 127 * 255) return Bytes.unsigned;
  return sum == 7 + 4 * 127 ? Bytes.signed : Bytes.inexact;
}

/**
 * rows x K activations times K x N weights, with a scale for each row and each column.
 *
 * `a`: int16 rows x K with `aScales` (float32); `w`: panels of int8, [N / 8][K / 2][8][2], with `wScales` (float32, N); `bias`:
 * float32 (N) or 0. K is a multiple of 4 and N of 8. See `Then` for what is stored at `to`, `stride` bytes a row. With `sums`
 * (int32, N, of each column's weights) `a` has bytes, to which `offset` was added, and panels are [N / 8][K / 4][8][4].
 */
export function product(
  a: usize, aScales: usize, w: usize, wScales: usize, bias: usize, sums: usize, offset: i32, to: usize, stride: usize,
  rows: i32, K: i32, N: i32, next: i32, residual: usize, thread: i32, threads: i32,
): void {
  then = next;
  out = to;
  outStride = stride;
  other = residual;
  const panels = N / PANEL;
  const first = (panels * thread) / threads;
  const last = (panels * (thread + 1)) / threads;
  for (let run = 0; run < rows; run += RUN) {
    const stop = min(rows, run + RUN);
    for (let panel = first; panel < last; panel++) {
      const n = panel * PANEL;
      const from = w + <usize>n * <usize>K;
      let row = run;
      if (ASC_FEATURE_RELAXED_SIMD && sums) {
        const factor = i32x4.splat(-offset);
        const low = i32x4.mul(v128.load(sums + (<usize>n << 2)), factor);
        const high = i32x4.mul(v128.load(sums + (<usize>n << 2), 16), factor);
        for (; row + 4 <= stop; row += 4) bytes4(a, aScales, from, wScales, bias, low, high, row, n, K);
        for (; row < stop; row++) bytes1(a, aScales, from, wScales, bias, low, high, row, n, K);
      }
      for (; row + 4 <= stop; row += 4) tile4(a, aScales, from, wScales, bias, row, n, K);
      for (; row < stop; row++) tile1(a, aScales, from, wScales, bias, row, n, K);
    }
  }
}

function tile4(a: usize, aScales: usize, w: usize, wScales: usize, bias: usize, row: i32, n: i32, K: i32): void {
  const length = <usize>K << 1;
  let a0 = a + <usize>row * length;
  let a1 = a0 + length;
  let a2 = a1 + length;
  let a3 = a2 + length;
  let s00 = i32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  const stop = w + <usize>K * PANEL;
  while (w < stop) {
    let low = v128.load_ext<i8>(w);
    let high = v128.load_ext<i8>(w, 8);
    let x = v128.load_splat<i32>(a0);
    s00 = add(s00, x, low);
    s01 = add(s01, x, high);
    x = v128.load_splat<i32>(a1);
    s10 = add(s10, x, low);
    s11 = add(s11, x, high);
    x = v128.load_splat<i32>(a2);
    s20 = add(s20, x, low);
    s21 = add(s21, x, high);
    x = v128.load_splat<i32>(a3);
    s30 = add(s30, x, low);
    s31 = add(s31, x, high);
    low = v128.load_ext<i8>(w, 16);
    high = v128.load_ext<i8>(w, 24);
    x = v128.load_splat<i32>(a0, 4);
    s00 = add(s00, x, low);
    s01 = add(s01, x, high);
    x = v128.load_splat<i32>(a1, 4);
    s10 = add(s10, x, low);
    s11 = add(s11, x, high);
    x = v128.load_splat<i32>(a2, 4);
    s20 = add(s20, x, low);
    s21 = add(s21, x, high);
    x = v128.load_splat<i32>(a3, 4);
    s30 = add(s30, x, low);
    s31 = add(s31, x, high);
    w += 32;
    a0 += 8;
    a1 += 8;
    a2 += 8;
    a3 += 8;
  }
  end(row, n, s00, s01, aScales, wScales, bias);
  end(row + 1, n, s10, s11, aScales, wScales, bias);
  end(row + 2, n, s20, s21, aScales, wScales, bias);
  end(row + 3, n, s30, s31, aScales, wScales, bias);
}

function tile1(a: usize, aScales: usize, w: usize, wScales: usize, bias: usize, row: i32, n: i32, K: i32): void {
  let x0 = a + ((<usize>row * <usize>K) << 1);
  let s0 = i32x4.splat(0);
  let s1 = s0;
  const stop = w + <usize>K * PANEL;
  while (w < stop) {
    const x = v128.load_splat<i32>(x0);
    s0 = add(s0, x, v128.load_ext<i8>(w));
    s1 = add(s1, x, v128.load_ext<i8>(w, 8));
    w += 16;
    x0 += 4;
  }
  end(row, n, s0, s1, aScales, wScales, bias);
}

/** As `tile4`, of bytes. `low`, `high`: what the sums begin with. */
function bytes4(
  a: usize, aScales: usize, w: usize, wScales: usize, bias: usize, low: v128, high: v128, row: i32, n: i32, K: i32,
): void {
  const length = <usize>K;
  let a0 = a + <usize>row * length;
  let a1 = a0 + length;
  let a2 = a1 + length;
  let a3 = a2 + length;
  let s00 = low;
  let s01 = high;
  let s10 = low;
  let s11 = high;
  let s20 = low;
  let s21 = high;
  let s30 = low;
  let s31 = high;
  const stop = w + <usize>K * PANEL;
  while (w < stop) {
    const left = v128.load(w);
    const right = v128.load(w, 16);
    let x = v128.load_splat<i32>(a0);
    s00 = dot4(left, x, s00);
    s01 = dot4(right, x, s01);
    x = v128.load_splat<i32>(a1);
    s10 = dot4(left, x, s10);
    s11 = dot4(right, x, s11);
    x = v128.load_splat<i32>(a2);
    s20 = dot4(left, x, s20);
    s21 = dot4(right, x, s21);
    x = v128.load_splat<i32>(a3);
    s30 = dot4(left, x, s30);
    s31 = dot4(right, x, s31);
    w += 32;
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
  }
  end(row, n, s00, s01, aScales, wScales, bias);
  end(row + 1, n, s10, s11, aScales, wScales, bias);
  end(row + 2, n, s20, s21, aScales, wScales, bias);
  end(row + 3, n, s30, s31, aScales, wScales, bias);
}

function bytes1(
  a: usize, aScales: usize, w: usize, wScales: usize, bias: usize, low: v128, high: v128, row: i32, n: i32, K: i32,
): void {
  let from = a + <usize>row * <usize>K;
  const stop = w + <usize>K * PANEL;
  while (w < stop) {
    const x = v128.load_splat<i32>(from);
    low = dot4(v128.load(w), x, low);
    high = dot4(v128.load(w, 16), x, high);
    w += 32;
    from += 4;
  }
  end(row, n, low, high, aScales, wScales, bias);
}

/** Bytes of a block in a panel: 32 weights of eight columns in 8 or 4 bits, and eight float16. */
export const WIDE: usize = 272;
export const NARROW: usize = 144;

/**
 * As `product`, with weights in blocks of 32 along K, `bits` (8 or 4) each and a float16 scale for each block.
 *
 * `w`: panels [N / 8][K / 32] of: the weights of a block, then its eight scales. In 8 bits [16][8][2] int8. In 4 bits the same
 * order of codes 0 to 15 (weight + 8), sixteen pairs two by two: a byte has one of the first pair below one of the second.
 * K is a multiple of 32. Activations may use all of int16: a sum of 32 products stays inside int32. `room`: for each thread a
 * panel of 8 bits, into which one of 4 is unpacked before a run of rows goes by.
 */
export function productBlocks(
  a: usize, aScales: usize, w: usize, bits: i32, room: usize, to: usize, stride: usize, rows: i32, K: i32, N: i32,
  next: i32, residual: usize, thread: i32, threads: i32,
): void {
  then = next;
  out = to;
  outStride = stride;
  other = residual;
  const panels = N / PANEL;
  const first = (panels * thread) / threads;
  const last = (panels * (thread + 1)) / threads;
  const count = <usize>(K / BLOCK);
  const unpacked = room + <usize>self * count * WIDE;
  for (let run = 0; run < rows; run += RUN) {
    const stop = min(rows, run + RUN);
    for (let panel = first; panel < last; panel++) {
      let from = w + <usize>panel * count * (bits == 8 ? WIDE : NARROW);
      if (bits == 4) {
        unpack(from, count, unpacked);
        from = unpacked;
      }
      for (let row = run; row < stop; row += 4) blocks(a, aScales, from, row, stop, panel * PANEL, K);
    }
  }
}

/** `count` blocks of 4 bits at `from` to as many of 8 bits at `to`. */
function unpack(from: usize, count: usize, to: usize): void {
  const end = to + count * WIDE;
  while (to < end) {
    const codes = to + 256;
    while (to < codes) {
      const two = v128.load(from);
      v128.store(to, i8x16.sub(v128.and(two, i8x16.splat(15)), i8x16.splat(8)));
      v128.store(to, i8x16.sub(i8x16.shr_u(two, 4), i8x16.splat(8)), 16);
      from += 16;
      to += 32;
    }
    v128.store(to, v128.load(from));
    from += 16;
    to += 16;
  }
}

/**
 * A tile of up to four rows. Its inner lines are those of `tile4`: sums must be locals to stay in registers, and AssemblyScript
 * has no way to share lines that write a dozen of them.
 */
function blocks(a: usize, aScales: usize, w: usize, row: i32, stop: i32, n: i32, K: i32): void {
  const length = <usize>K << 1;
  // Rows that are not there are the last one once more, and are not stored.
  const count = min(4, stop - row);
  let a0 = a + <usize>row * length;
  let a1 = count > 1 ? a0 + length : a0;
  let a2 = count > 2 ? a1 + length : a1;
  let a3 = count > 3 ? a2 + length : a2;
  let f00 = f32x4.splat(0);
  let f01 = f00;
  let f10 = f00;
  let f11 = f00;
  let f20 = f00;
  let f21 = f00;
  let f30 = f00;
  let f31 = f00;
  for (let block = 0; block < K; block += BLOCK) {
    let s00 = i32x4.splat(0);
    let s01 = s00;
    let s10 = s00;
    let s11 = s00;
    let s20 = s00;
    let s21 = s00;
    let s30 = s00;
    let s31 = s00;
    const end = a0 + 2 * BLOCK;
    while (a0 < end) {
      const low = v128.load_ext<i8>(w);
      const high = v128.load_ext<i8>(w, 8);
      const nextLow = v128.load_ext<i8>(w, 16);
      const nextHigh = v128.load_ext<i8>(w, 24);
      w += 32;
      let x = v128.load_splat<i32>(a0);
      s00 = add(s00, x, low);
      s01 = add(s01, x, high);
      x = v128.load_splat<i32>(a1);
      s10 = add(s10, x, low);
      s11 = add(s11, x, high);
      x = v128.load_splat<i32>(a2);
      s20 = add(s20, x, low);
      s21 = add(s21, x, high);
      x = v128.load_splat<i32>(a3);
      s30 = add(s30, x, low);
      s31 = add(s31, x, high);
      x = v128.load_splat<i32>(a0, 4);
      s00 = add(s00, x, nextLow);
      s01 = add(s01, x, nextHigh);
      x = v128.load_splat<i32>(a1, 4);
      s10 = add(s10, x, nextLow);
      s11 = add(s11, x, nextHigh);
      x = v128.load_splat<i32>(a2, 4);
      s20 = add(s20, x, nextLow);
      s21 = add(s21, x, nextHigh);
      x = v128.load_splat<i32>(a3, 4);
      s30 = add(s30, x, nextLow);
      s31 = add(s31, x, nextHigh);
      a0 += 8;
      a1 += 8;
      a2 += 8;
      a3 += 8;
    }
    const low = half4(w);
    const high = half4(w + 8);
    w += 16;
    f00 = madd4(f32x4.convert_i32x4_s(s00), low, f00);
    f01 = madd4(f32x4.convert_i32x4_s(s01), high, f01);
    f10 = madd4(f32x4.convert_i32x4_s(s10), low, f10);
    f11 = madd4(f32x4.convert_i32x4_s(s11), high, f11);
    f20 = madd4(f32x4.convert_i32x4_s(s20), low, f20);
    f21 = madd4(f32x4.convert_i32x4_s(s21), high, f21);
    f30 = madd4(f32x4.convert_i32x4_s(s30), low, f30);
    f31 = madd4(f32x4.convert_i32x4_s(s31), high, f31);
  }
  const scales = aScales + (<usize>row << 2);
  let scale = v128.load_splat<f32>(scales);
  put(row, n, f32x4.mul(f00, scale), f32x4.mul(f01, scale));
  if (count > 1) {
    scale = v128.load_splat<f32>(scales, 4);
    put(row + 1, n, f32x4.mul(f10, scale), f32x4.mul(f11, scale));
  }
  if (count > 2) {
    scale = v128.load_splat<f32>(scales, 8);
    put(row + 2, n, f32x4.mul(f20, scale), f32x4.mul(f21, scale));
  }
  if (count > 3) {
    scale = v128.load_splat<f32>(scales, 12);
    put(row + 3, n, f32x4.mul(f30, scale), f32x4.mul(f31, scale));
  }
}
