// The scan kernel (AssemblyScript): exact products of queries with many int8 vectors, and the best k of them.
//
// Built twice from this file: with plain SIMD, and with relaxed SIMD, whose dot product takes one operand of 7 bits.
// Both give the same bits.
//
// A vector lies in two halves of 4 bits, each in a plane of its own, since reading memory is most of a scan: the upper halves
// tell of nearly all vectors that they are not among the best. With d a component and u and r its halves, d = 16 * u + r - 128.
// A row of a plane is `stride` bytes, a multiple of 16; byte j of each 16 has the component j of 32 in its lower bits and
// j + 16 in its upper ones. Scales are not negative.
//
// A query has 15 bits: q = 128 * h + l with |h| <= 127 and |l| <= 64, so |q| <= 16,256 + 64. A product of dim <= 1,024
// stays below 128 * 16,320 * 1,024 < 2^31. It is described, with what was found for it, by an *ask*:
//
//     0 found (int32)   4 k (int32)   8 scale (float32)   12 slack (int32)   16 excess (int32)
//     32 the components (int16), 4 * stride bytes
//     then h in the order in which the halves meet it, 4 * stride bytes, of which relaxed SIMD (int8) needs half
//     then k scores (float32) and k positions (int32), a heap: the worst is first
//
// What a product is at most, in units of 128:
//
//     by its upper half      16 * (h . u) + slack               as h . r <= 15 * sum of the positive h, the excess
//     by both halves         16 * (h . u) + slack + h . r - excess
//
// with slack = excess - 128 * sum h + sum |l|, as l . d <= 128 * sum |l|. Only a vector whose bound, times its scale, is no less
// than the worst of the best so far has its second half read, and only then its exact product made. Products by 128 commute
// with rounding, so a bound holds for the rounded scores.

const RELAXED = ASC_FEATURE_RELAXED_SIMD;
const COMPONENTS: usize = 32;

/** The first byte that the kernel does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}

/** Put `count` rows of `dim` int8, one after another, into the planes from row `first` on. */
export function split(rows: usize, count: i32, dim: i32, first: i32): void {
  let at = <usize>first * <usize>stride;
  for (let i = 0; i < count; i++, rows += dim, at += stride) {
    for (let from: usize = 0, to = at; from < <usize>dim; from += 32, to += 16) {
      if (from + 32 <= <usize>dim) splitBlock(rows + from, upper + to, lower + to);
      else splitRest(rows + from, dim - <i32>from, upper + to, lower + to);
    }
  }
}

function splitBlock(from: usize, upper: usize, lower: usize): void {
  const sign = i8x16.splat(-128);
  const bits = i8x16.splat(15);
  const a = v128.xor(v128.load(from), sign);
  const b = v128.xor(v128.load(from, 16), sign);
  v128.store(upper, v128.or(i8x16.shr_u(a, 4), v128.andnot(b, bits)));
  v128.store(lower, v128.or(v128.and(a, bits), i8x16.shl(b, 4)));
}

/** Fewer than 32 components; zeros follow. */
function splitRest(from: usize, count: i32, upper: usize, lower: usize): void {
  for (let j = 0; j < 16; j++) {
    const a = (j < count ? <i32>load<i8>(from + j) : 0) + 128;
    const b = (j + 16 < count ? <i32>load<i8>(from + j, 16) : 0) + 128;
    store<u8>(upper + j, (a >> 4) | (b & 240));
    store<u8>(lower + j, (a & 15) | ((b & 15) << 4));
  }
}

/** Make an ask ready whose k, scale and components are written. */
export function prepare(ask: usize, dim: i32): void {
  store<i32>(ask, 0);
  const query = ask + COMPONENTS;
  const parts = query + 4 * stride;
  memory.fill(parts, 0, 4 * stride);
  let sum = 0;
  let excess = 0;
  let low = 0;
  for (let i = 0; i < dim; i++) {
    const q = <i32>load<i16>(query + (i << 1));
    const h = (q + 64) >> 7;
    const l = q - (h << 7);
    if (RELAXED) store<i8>(parts + i, h);
    else store<i16>(parts + plainPlace(i), h);
    sum += h;
    low += l < 0 ? -l : l;
    if (h > 0) excess += 15 * h;
  }
  store<i32>(ask, excess - 128 * sum + low, 12);
  store<i32>(ask, excess, 16);
}

/**
 * Plain SIMD takes a row as lanes of 16 bits, four components each: j, j + 16, j + 1, j + 17 of 32, from the lowest bits on,
 * where j is even.
 */
function plainPlace(i: i32): usize {
  const within = i & 31;
  const group = ((within & 1) << 1) | (within >> 4);
  return (((i >> 5) << 5) + (group << 3) + ((within & 15) >> 1)) << 1;
}

/** `sum` plus the products of the 32 halves at `v` with the query's, which are there in as many registers as it takes. */
// @ts-ignore: decorator
@inline
function add(sum: v128, v: v128, q0: v128, q1: v128, q2: v128, q3: v128): v128 {
  if (RELAXED) {
    const bits = i8x16.splat(15);
    sum = i32x4.relaxed_dot_i8x16_i7x16_add_s(q0, v128.and(v, bits), sum);
    return i32x4.relaxed_dot_i8x16_i7x16_add_s(q1, v128.and(i16x8.shr_u(v, 4), bits), sum);
  }
  const bits = i16x8.splat(15);
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.and(v, bits), q0));
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(v, 4), bits), q1));
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(v, 8), bits), q2));
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.shr_u(v, 12), q3));
}

/** The sums of the lanes of a, b, c and d. */
// @ts-ignore: decorator
@inline
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
  const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
  return i32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
}

/** The products of h with four rows of one plane. */
// @ts-ignore: decorator
@inline
function four(v0: usize, v1: usize, v2: usize, v3: usize, h: usize, size: usize): v128 {
  let s0 = i32x4.splat(0);
  let s1 = i32x4.splat(0);
  let s2 = i32x4.splat(0);
  let s3 = i32x4.splat(0);
  for (let at: usize = 0; at < size; at += 16) {
    const q = h + (at << (RELAXED ? 1 : 2));
    const q0 = v128.load(q);
    const q1 = v128.load(q, 16);
    const q2 = RELAXED ? q0 : v128.load(q, 32);
    const q3 = RELAXED ? q1 : v128.load(q, 48);
    s0 = add(s0, v128.load(v0 + at), q0, q1, q2, q3);
    s1 = add(s1, v128.load(v1 + at), q0, q1, q2, q3);
    s2 = add(s2, v128.load(v2 + at), q0, q1, q2, q3);
    s3 = add(s3, v128.load(v3 + at), q0, q1, q2, q3);
  }
  return sums(s0, s1, s2, s3);
}

/** The exact product of one vector with the components at `query`. */
function exact(upper: usize, lower: usize): i32 {
  const bits = i8x16.splat(15);
  const sign = i8x16.splat(-128);
  let sum = i32x4.splat(0);
  for (let at: usize = 0; at < <usize>stride; at += 16) {
    const u = v128.load(upper + at);
    const r = v128.load(lower + at);
    const q = query + (at << 2);
    sum = addExact(sum, v128.xor(v128.or(i8x16.shl(u, 4), v128.and(r, bits)), sign), q);
    sum = addExact(sum, v128.xor(v128.or(v128.andnot(u, bits), i8x16.shr_u(r, 4)), sign), q + 32);
  }
  const zero = i32x4.splat(0);
  return i32x4.extract_lane(sums(sum, zero, zero, zero), 0);
}

// @ts-ignore: decorator
@inline
function addExact(sum: v128, d: v128, q: usize): v128 {
  sum = i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(d), v128.load(q)));
  return i32x4.add(sum, i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(d), v128.load(q, 16)));
}

// The vectors and the ask at hand, and the score that must be reached to be one of its best.
let upper: usize = 0;
let lower: usize = 0;
let scales: usize = 0;
let stride: i32 = 0;
let ask: usize = 0;
let query: usize = 0;
let parts: usize = 0;
let scores: usize = 0;
let positions: usize = 0;
let k: i32 = 0;
let found: i32 = 0;
let floor: f32 = 0;

function begin(at: usize): void {
  ask = at;
  found = load<i32>(at);
  k = load<i32>(at, 4);
  query = at + COMPONENTS;
  parts = query + 4 * stride;
  scores = parts + 4 * stride;
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

function lookAtOne(position: i32): void {
  const at = <usize>position * <usize>stride;
  const score = <f32>exact(upper + at, lower + at) * load<f32>(scales + (<usize>position << 2)) * load<f32>(ask, 8);
  if (score >= floor) offer(score, position);
}

/** Look at four vectors; `s` are their scales. */
// @ts-ignore: decorator
@inline
function lookAtFour(a: i32, b: i32, c: i32, d: i32, s: v128, slack: v128, factor: v128, size: usize): void {
  const va = <usize>a * size;
  const vb = <usize>b * size;
  const vc = <usize>c * size;
  const vd = <usize>d * size;
  const dots = four(upper + va, upper + vb, upper + vc, upper + vd, parts, size);
  const bound = i32x4.add(i32x4.shl(dots, 4), slack);
  const most = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(bound), s), factor);
  if (v128.any_true(f32x4.ge(most, f32x4.splat(floor)))) lookCloser(a, b, c, d, s, bound, factor);
}

/** The same by both halves; `bound`: what their products are at most by the upper ones. */
function lookCloser(a: i32, b: i32, c: i32, d: i32, s: v128, bound: v128, factor: v128): void {
  const size = <usize>stride;
  const dots = four(lower + <usize>a * size, lower + <usize>b * size, lower + <usize>c * size, lower + <usize>d * size, parts, size);
  const closer = i32x4.sub(i32x4.add(bound, dots), i32x4.splat(load<i32>(ask, 16)));
  const most = f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(closer), s), factor);
  if (f32x4.extract_lane(most, 0) >= floor) lookAtOne(a);
  if (f32x4.extract_lane(most, 1) >= floor) lookAtOne(b);
  if (f32x4.extract_lane(most, 2) >= floor) lookAtOne(c);
  if (f32x4.extract_lane(most, 3) >= floor) lookAtOne(d);
}

/** Where the vectors lie that the next calls look at: addresses of their planes and scales, and the bytes of a row. */
export function use(ofUpper: usize, ofLower: usize, ofScales: usize, bytes: i32): void {
  upper = ofUpper;
  lower = ofLower;
  scales = ofScales;
  stride = bytes;
}

/**
 * Look at the vectors `first` to `end`. The score is float32(product) * scale of the vector * scale of the query, in this
 * order; one that is no number is never found.
 */
export function scan(at: usize, first: i32, end: i32): void {
  begin(at);
  const slack = i32x4.splat(load<i32>(at, 12));
  const factor = f32x4.splat(128 * load<f32>(at, 8));
  const size = <usize>stride;
  let i = first;
  for (; i + 4 <= end; i += 4) {
    lookAtFour(i, i + 1, i + 2, i + 3, v128.load(scales + (<usize>i << 2)), slack, factor, size);
  }
  for (; i < end; i++) lookAtOne(i);
  store<i32>(at, found);
}

/** As `scan`, of the `count` positions (int32, in any order) at `among`. */
export function scanAmong(at: usize, among: usize, count: i32): void {
  begin(at);
  const slack = i32x4.splat(load<i32>(at, 12));
  const factor = f32x4.splat(128 * load<f32>(at, 8));
  const size = <usize>stride;
  const end = among + (<usize>count << 2);
  for (; among + 16 <= end; among += 16) {
    const a = load<i32>(among);
    const b = load<i32>(among, 4);
    const c = load<i32>(among, 8);
    const d = load<i32>(among, 12);
    let s = v128.load_zero<f32>(scales + (<usize>a << 2));
    s = v128.load_lane<f32>(scales + (<usize>b << 2), s, 1);
    s = v128.load_lane<f32>(scales + (<usize>c << 2), s, 2);
    s = v128.load_lane<f32>(scales + (<usize>d << 2), s, 3);
    lookAtFour(a, b, c, d, s, slack, factor, size);
  }
  for (; among < end; among += 4) lookAtOne(load<i32>(among));
  store<i32>(at, found);
}

/** Put the best of an ask in order, best first, equal scores by position. Returns how many were found. */
export function finish(at: usize): i32 {
  begin(at);
  for (let last = found - 1; last > 0; last--) {
    const score = load<f32>(scores + (last << 2));
    const position = load<i32>(positions + (last << 2));
    put(last, load<f32>(scores), load<i32>(positions));
    sink(score, position, last);
  }
  return found;
}
