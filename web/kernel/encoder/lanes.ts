// Functions of four floats.

/** 1.5 * 2^23: added to a float32 below 2^22 it leaves the nearest integer (halves to even) in the lowest bits of the sum. */
const MAGIC: f32 = 12582912;

/** a * b + c: in one instruction, rounded once, where SIMD is relaxed and the processor can. */
// @ts-ignore: decorator
@inline
export function madd4(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/**
 * Of each lane: the sum of four products of int8 `a` and of bytes `b`, added to c. Whether these count as unsigned or signed is the
 * processor's choice, and some are not exact: see `byteKind`.
 */
// @ts-ignore: decorator
@inline
export function dot4(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, c) : c;
}

/**
 * The nearest integers as int32, for numbers of less than 2^22. Two instructions, where `nearest` and a truncation that must
 * saturate are ten.
 */
// @ts-ignore: decorator
@inline
export function round4(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, f32x4.splat(MAGIC)), i32x4.splat(0x4b400000));
}

// Constants of `exp2` and `gelu4`, four lanes each. In memory, as engines make a constant of 16 bytes in code anew wherever it is used, with
// two or three instructions: attention takes 12% less time so.
const CONSTANTS = memory.data<f32>([
  -126, -126, -126, -126, MAGIC, MAGIC, MAGIC, MAGIC,
  // The polynomial of degree 5 for 2^x, -0.5 to 0.5, whose largest relative error is least (Remez' exchange): 7.5e-8.
  1.32764718e-3, 1.32764718e-3, 1.32764718e-3, 1.32764718e-3, 9.67554133e-3, 9.67554133e-3, 9.67554133e-3, 9.67554133e-3,
  5.55071327e-2, 5.55071327e-2, 5.55071327e-2, 5.55071327e-2, 2.40221197e-1, 2.40221197e-1, 2.40221197e-1, 2.40221197e-1,
  6.93146967e-1, 6.93146967e-1, 6.93146967e-1, 6.93146967e-1, 1.00000007, 1.00000007, 1.00000007, 1.00000007,
  // -2 * sqrt(2 / pi) / ln 2, the same times 0.044715, the largest power, one.
  -2.3022082, -2.3022082, -2.3022082, -2.3022082, -0.10294324, -0.10294324, -0.10294324, -0.10294324,
  126, 126, 126, 126, 1, 1, 1, 1,
]);

/** 2 to the x, for x up to 126; what is below -126 counts as -126. The whole part becomes the exponent. */
// @ts-ignore: decorator
@inline
export function exp2(x: v128): v128 {
  x = f32x4.pmax(x, v128.load(CONSTANTS));
  const shifted = f32x4.add(x, v128.load(CONSTANTS, 16));
  x = f32x4.sub(x, f32x4.sub(shifted, v128.load(CONSTANTS, 16)));
  let p = madd4(x, v128.load(CONSTANTS, 32), v128.load(CONSTANTS, 48));
  p = madd4(p, x, v128.load(CONSTANTS, 64));
  p = madd4(p, x, v128.load(CONSTANTS, 80));
  p = madd4(p, x, v128.load(CONSTANTS, 96));
  p = madd4(p, x, v128.load(CONSTANTS, 112));
  // The whole part, in the lowest bits of `shifted`, is added to the exponent.
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** GELU in its tanh form (Hendrycks & Gimpel, 2016, arXiv:1606.08415): x / (1 + e^(-2y)), y = sqrt(2 / pi) * (x + 0.044715 x^3). */
// @ts-ignore: decorator
@inline
export function gelu4(x: v128): v128 {
  const factor = madd4(f32x4.mul(x, x), v128.load(CONSTANTS, 144), v128.load(CONSTANTS, 128));
  const power = f32x4.pmin(f32x4.mul(x, factor), v128.load(CONSTANTS, 160));
  return f32x4.div(x, f32x4.add(v128.load(CONSTANTS, 176), exp2(power)));
}

// @ts-ignore: decorator
@inline
export function sum4(x: v128): f32 {
  return (
    f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3))
  );
}

// @ts-ignore: decorator
@inline
export function max4(x: v128): f32 {
  return max(
    max(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1)),
    max(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)),
  );
}

/** Four float16 at `at` as float32: the exponent is moved by a product, which also makes subnormal numbers right. */
// @ts-ignore: decorator
@inline
export function half4(at: usize): v128 {
  const bits = v128.load_ext<u16>(at);
  const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16);
  const rest = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13);
  return f32x4.mul(v128.or(sign, rest), f32x4.splat(reinterpret<f32>(0x77800000)));
}
