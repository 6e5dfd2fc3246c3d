// The scan kernel (AssemblyScript): exact int8 dot products of one query with many vectors, and the best k of them.
//
// Built twice from this file: with plain SIMD, and with relaxed SIMD, whose dot product takes one operand of 7 bits.
// Both give the same bits. Vectors lie `stride` bytes apart, a multiple of 16, padded with zeros.

// The two forms of the query share one area: 2 * stride bytes.
// Plain: the components as int16. Relaxed: |q| as 7 bits, then a mask of the sign, 0 or -1.
// There dot(q, d) = sum |q| * ((d ^ mask) - mask), and as (d ^ mask) - mask = (d ^ mask) + 1 where q < 0, the "+ 1"s add
// up to a constant of the query, `bias`. |q| <= 127 and d ^ mask >= -128: a pair of products stays inside int16.

const RELAXED = ASC_FEATURE_RELAXED_SIMD;

/** The first byte that the kernel does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}

let bias: i32 = 0;

/** Lay out `dim` int8 components at `source` (none is -128) for the scan, into 2 * stride bytes at `query`. */
export function prepare(source: usize, dim: i32, stride: i32, query: usize): void {
  bias = 0;
  memory.fill(query, 0, 2 * stride);
  for (let i = 0; i < dim; i++) {
    const q = <i32>load<i8>(source + i);
    if (RELAXED) {
      const at = query + ((i >> 4) << 5) + (i & 15);
      store<i8>(at, q < 0 ? -q : q);
      store<i8>(at, q < 0 ? -1 : 0, 16);
      if (q < 0) bias -= q;
    } else {
      store<i16>(query + (i << 1), q);
    }
  }
}

/** `sum` plus the products of the 16 components at `v + offset` and those of the query, loaded before in its two parts. */
// @ts-ignore: decorator
@inline
function add(sum: v128, v: usize, q0: v128, q1: v128): v128 {
  if (RELAXED) return i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.xor(v128.load(v), q1), q0, sum);
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(v), q0));
  return i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(v, 8), q1));
}

/** The same for the 16 components after those. */
// @ts-ignore: decorator
@inline
function addNext(sum: v128, v: usize, q0: v128, q1: v128): v128 {
  if (RELAXED) return i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.xor(v128.load(v, 16), q1), q0, sum);
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(v, 16), q0));
  return i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(v, 24), q1));
}

/** The sums of the lanes of a, b, c and d. */
// @ts-ignore: decorator
@inline
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
}

// The best so far, sorted: `found` scores (float32) at `scores` and positions (int32) at `positions`.
let found: i32 = 0;
let floor: f32 = 0;

function offer(score: f32, position: i32, k: i32, scores: usize, positions: usize): void {
  // An equal score that came before stays before: positions are offered in ascending order.
  let at = found < k ? found++ : k - 1;
  while (at > 0 && load<f32>(scores + ((at - 1) << 2)) < score) {
    store<f32>(scores + (at << 2), load<f32>(scores + ((at - 1) << 2)));
    store<i32>(positions + (at << 2), load<i32>(positions + ((at - 1) << 2)));
    at--;
  }
  store<f32>(scores + (at << 2), score);
  store<i32>(positions + (at << 2), position);
  if (found == k) floor = load<f32>(scores + ((k - 1) << 2));
}

/**
 * The `k` best of `count` vectors: float32(dot) * scale * queryScale, in this order. Returns how many were found.
 * `k` >= 1. The results lie sorted at `scores` and `positions`, equal scores by position.
 */
export function scan(
  codes: usize,
  scales: usize,
  count: i32,
  stride: i32,
  query: usize,
  queryScale: f32,
  k: i32,
  scores: usize,
  positions: usize,
): i32 {
  found = 0;
  floor = -Infinity;
  const extra = i32x4.splat(bias);
  const factor = f32x4.splat(queryScale);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const v0 = codes + <usize>i * <usize>stride;
    const v1 = v0 + stride;
    const v2 = v1 + stride;
    const v3 = v2 + stride;
    let s0 = i32x4.splat(0);
    let s1 = i32x4.splat(0);
    let s2 = i32x4.splat(0);
    let s3 = i32x4.splat(0);
    let at: usize = 0;
    for (; at + 32 <= <usize>stride; at += 32) {
      const q0 = v128.load(query + (at << 1));
      const q1 = v128.load(query + (at << 1), 16);
      s0 = add(s0, v0 + at, q0, q1);
      s1 = add(s1, v1 + at, q0, q1);
      s2 = add(s2, v2 + at, q0, q1);
      s3 = add(s3, v3 + at, q0, q1);
      const q2 = v128.load(query + (at << 1), 32);
      const q3 = v128.load(query + (at << 1), 48);
      s0 = addNext(s0, v0 + at, q2, q3);
      s1 = addNext(s1, v1 + at, q2, q3);
      s2 = addNext(s2, v2 + at, q2, q3);
      s3 = addNext(s3, v3 + at, q2, q3);
    }
    if (at < <usize>stride) {
      const q0 = v128.load(query + (at << 1));
      const q1 = v128.load(query + (at << 1), 16);
      s0 = add(s0, v0 + at, q0, q1);
      s1 = add(s1, v1 + at, q0, q1);
      s2 = add(s2, v2 + at, q0, q1);
      s3 = add(s3, v3 + at, q0, q1);
    }
    const dots = i32x4.add(sums(s0, s1, s2, s3), extra);
    const four = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(dots), v128.load(scales + (<usize>i << 2))), factor);
    if (v128.any_true(f32x4.gt(four, f32x4.splat(floor)))) {
      if (f32x4.extract_lane(four, 0) > floor) offer(f32x4.extract_lane(four, 0), i, k, scores, positions);
      if (f32x4.extract_lane(four, 1) > floor) offer(f32x4.extract_lane(four, 1), i + 1, k, scores, positions);
      if (f32x4.extract_lane(four, 2) > floor) offer(f32x4.extract_lane(four, 2), i + 2, k, scores, positions);
      if (f32x4.extract_lane(four, 3) > floor) offer(f32x4.extract_lane(four, 3), i + 3, k, scores, positions);
    }
  }
  for (; i < count; i++) one(i, codes, scales, stride, query, queryScale, k, scores, positions);
  return found;
}

/** As `scan`, over the `count` positions (int32, ascending) at `among` only. */
export function scanAmong(
  among: usize,
  codes: usize,
  scales: usize,
  count: i32,
  stride: i32,
  query: usize,
  queryScale: f32,
  k: i32,
  scores: usize,
  positions: usize,
): i32 {
  found = 0;
  floor = -Infinity;
  for (let i = 0; i < count; i++) {
    const position = load<i32>(among + (<usize>i << 2));
    one(position, codes, scales, stride, query, queryScale, k, scores, positions);
  }
  return found;
}

function one(
  position: i32,
  codes: usize,
  scales: usize,
  stride: i32,
  query: usize,
  queryScale: f32,
  k: i32,
  scores: usize,
  positions: usize,
): void {
  const vector = codes + <usize>position * <usize>stride;
  let sum = i32x4.splat(0);
  for (let j: usize = 0; j < <usize>stride; j += 16) {
    sum = add(sum, vector + j, v128.load(query + (j << 1)), v128.load(query + (j << 1), 16));
  }
  const zero = i32x4.splat(0);
  const dot = i32x4.extract_lane(sums(sum, zero, zero, zero), 0) + bias;
  const score = <f32>dot * load<f32>(scales + (<usize>position << 2)) * queryScale;
  if (score > floor) offer(score, position, k, scores, positions);
}
