// The scan kernel (AssemblyScript): exact products of queries with many int8 vectors, and the best k of them.
//
// Built twice from this file: with plain SIMD, and with relaxed SIMD, whose dot product takes one operand of 7 bits.
// Both give the same bits. Vectors lie `stride` bytes apart, a multiple of 16, padded with zeros; scales are not negative.
//
// A query has 15 bits: q = 128 * h + l with |h| <= 127 and |l| <= 64, so |q| <= 16,256 + 64. A product of dim <= 1,024
// stays below 128 * 16,320 * 1,024 < 2^31. It is described, with what was found for it, by an *ask*:
//
//     0 found (int32)   4 k (int32)   8 scale (float32)   12 slack (int32)
//     16 the components (int16), 2 * stride bytes
//     then, where SIMD is relaxed, 2 * stride bytes: for each 16 components |h| as 7 bits, then its sign, 0 or -1
//     then (room for the above is always there) k scores (float32) and k positions (int32), a heap: the worst is first
//
// Relaxed: h . d = sum |h| * ((d ^ sign) - sign), and as (d ^ sign) - sign = (d ^ sign) + 1 where h < 0, the "+ 1"s add up to
// a constant of the query. A pair of products stays inside int16: |h| <= 127, d ^ sign >= -128. As l . d <= 128 * sum |l|,
// a vector can be among the best only if 128 * (h . d + sum |l|), times its scale, is no less than the worst of these; the
// few that are get their exact product. Products by 128 commute with rounding, so that bound holds for the rounded scores.
// `slack` is both constants.

const RELAXED = ASC_FEATURE_RELAXED_SIMD;
const COMPONENTS: usize = 16;

/** The first byte that the kernel does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}

/** Make an ask ready whose k, scale and components are written. */
export function prepare(ask: usize, dim: i32, stride: i32): void {
  store<i32>(ask, 0);
  if (!RELAXED) return;
  const query = ask + COMPONENTS;
  const parts = query + 2 * stride;
  memory.fill(parts, 0, 2 * stride);
  let slack = 0;
  for (let i = 0; i < dim; i++) {
    const q = <i32>load<i16>(query + (i << 1));
    const h = (q + 64) >> 7;
    const l = q - (h << 7);
    const at = parts + ((i >> 4) << 5) + (i & 15);
    store<i8>(at, h < 0 ? -h : h);
    store<i8>(at, h < 0 ? -1 : 0, 16);
    slack += (h < 0 ? -h : 0) + (l < 0 ? -l : l);
  }
  store<i32>(ask, slack, 12);
}

/** `sum` plus the products of the 16 components at `v` and those of the query, loaded before in its two parts. */
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

/** The products of four vectors with the parts of the query at `query`: of h alone where SIMD is relaxed. */
// @ts-ignore: decorator
@inline
function four(v0: usize, v1: usize, v2: usize, v3: usize, query: usize, stride: i32): v128 {
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
  return sums(s0, s1, s2, s3);
}

/** The exact product of one vector with the components at `query`. */
function exact(vector: usize, query: usize, stride: i32): i32 {
  let sum = i32x4.splat(0);
  for (let j: usize = 0; j < <usize>stride; j += 16) {
    sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(vector + j), v128.load(query + (j << 1))));
    sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.load_ext<i8>(vector + j, 8), v128.load(query + (j << 1), 16)));
  }
  const zero = i32x4.splat(0);
  return i32x4.extract_lane(sums(sum, zero, zero, zero), 0);
}

// The ask at hand, and the score that must be reached to be one of its best.
let ask: usize = 0;
let query: usize = 0;
let parts: usize = 0;
let scores: usize = 0;
let positions: usize = 0;
let k: i32 = 0;
let found: i32 = 0;
let floor: f32 = 0;

function begin(at: usize, stride: i32): void {
  ask = at;
  found = load<i32>(at);
  k = load<i32>(at, 4);
  query = at + COMPONENTS;
  parts = RELAXED ? query + 2 * stride : query;
  scores = query + 4 * stride;
  positions = scores + (k << 2);
  floor = found < k ? -Infinity : load<f32>(scores);
}

/** Whether (score, position) comes after the entry `at` of the heap: equal scores are ordered by position. */
// @ts-ignore: decorator
@inline
function isWorse(score: f32, position: i32, at: i32): bool {
  const other = load<f32>(scores + (at << 2));
  return score < other || (score == other && position > load<i32>(positions + (at << 2)));
}

// @ts-ignore: decorator
@inline
function put(at: i32, score: f32, position: i32): void {
  store<f32>(scores + (at << 2), score);
  store<i32>(positions + (at << 2), position);
}

/** Put an entry where the root of a heap of `count` was. */
function sink(score: f32, position: i32, count: i32): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= count) break;
    if (child + 1 < count && isWorse(load<f32>(scores + (child << 2), 4), load<i32>(positions + (child << 2), 4), child)) {
      child++;
    }
    if (isWorse(score, position, child)) break;
    put(at, load<f32>(scores + (child << 2)), load<i32>(positions + (child << 2)));
    at = child;
  }
  put(at, score, position);
}

/** `score` is no less than `floor`. */
function offer(score: f32, position: i32): void {
  if (found == k) {
    if (isWorse(score, position, 0)) return;
    sink(score, position, k);
  } else {
    let at = found++;
    while (at > 0 && isWorse(score, position, (at - 1) >> 1)) {
      const parent = (at - 1) >> 1;
      put(at, load<f32>(scores + (parent << 2)), load<i32>(positions + (parent << 2)));
      at = parent;
    }
    put(at, score, position);
  }
  if (found == k) floor = load<f32>(scores);
}

/** Look at one vector whose score is `score`, or at most that where SIMD is relaxed. */
function look(score: f32, position: i32, codes: usize, scales: usize, stride: i32): void {
  if (!(score >= floor)) return;
  if (RELAXED) lookAtOne(position, codes, scales, stride);
  else offer(score, position);
}

function lookAtOne(position: i32, codes: usize, scales: usize, stride: i32): void {
  const score = exactScore(position, codes, scales, stride);
  if (score >= floor) offer(score, position);
}

// @ts-ignore: decorator
@inline
function exactScore(position: i32, codes: usize, scales: usize, stride: i32): f32 {
  const dot = exact(codes + <usize>position * <usize>stride, query, stride);
  return <f32>dot * load<f32>(scales + (<usize>position << 2)) * load<f32>(ask, 8);
}

/**
 * Look at the vectors `first` to `end`. The score is float32(product) * scale of the vector * scale of the query, in this
 * order; one that is no number is never found.
 */
export function scan(at: usize, codes: usize, scales: usize, first: i32, end: i32, stride: i32): void {
  begin(at, stride);
  const slack = i32x4.splat(RELAXED ? load<i32>(at, 12) : 0);
  const factor = f32x4.splat(RELAXED ? 128 * load<f32>(at, 8) : load<f32>(at, 8));
  let i = first;
  for (; i + 4 <= end; i += 4) {
    const v = codes + <usize>i * <usize>stride;
    const dots = i32x4.add(four(v, v + stride, v + 2 * stride, v + 3 * stride, parts, stride), slack);
    const found4 = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(dots), v128.load(scales + (<usize>i << 2))), factor);
    if (v128.any_true(f32x4.ge(found4, f32x4.splat(floor)))) lookAtFour(found4, i, i + 1, i + 2, i + 3, codes, scales, stride);
  }
  for (; i < end; i++) lookAtOne(i, codes, scales, stride);
  store<i32>(at, found);
}

// @ts-ignore: decorator
@inline
function lookAtFour(s: v128, a: i32, b: i32, c: i32, d: i32, codes: usize, scales: usize, stride: i32): void {
  look(f32x4.extract_lane(s, 0), a, codes, scales, stride);
  look(f32x4.extract_lane(s, 1), b, codes, scales, stride);
  look(f32x4.extract_lane(s, 2), c, codes, scales, stride);
  look(f32x4.extract_lane(s, 3), d, codes, scales, stride);
}

/** As `scan`, of the `count` positions (int32, in any order) at `among`. */
export function scanAmong(at: usize, codes: usize, scales: usize, among: usize, count: i32, stride: i32): void {
  begin(at, stride);
  for (let i = 0; i < count; i++) lookAtOne(load<i32>(among + (<usize>i << 2)), codes, scales, stride);
  store<i32>(at, found);
}

/** Put the best of an ask in order, best first, equal scores by position. Returns how many were found. */
export function finish(at: usize, stride: i32): i32 {
  begin(at, stride);
  for (let last = found - 1; last > 0; last--) {
    const score = load<f32>(scores + (last << 2));
    const position = load<i32>(positions + (last << 2));
    put(last, load<f32>(scores), load<i32>(positions));
    sink(score, position, last);
  }
  return found;
}
