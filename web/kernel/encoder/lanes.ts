// Functions of four floats.

/** 1.5 * 2^23: added to a float32 below 2^22 it leaves the nearest integer (halves to even) in the lowest bits of the sum. */
const MAGIC: f32 = 12582912;

/**
 * The nearest integers as int32, for numbers of less than 2^22. Two instructions, where `nearest` and a truncation that must
 * saturate are ten.
 */
// @ts-ignore: decorator
@inline
export function round4(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, f32x4.splat(MAGIC)), i32x4.splat(0x4b400000));
}

/**
 * e to the x. Range reduction by ln 2 in two parts and a polynomial of degree 5 with the coefficients of Cephes' expf
 * (Moshier, 1989): within 2 units of the last place. Beyond -87 and 88 it stays at what it is there.
 */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, f32x4.splat(88)), f32x4.splat(-87));
  const shifted = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504)), f32x4.splat(MAGIC));
  const n = f32x4.sub(shifted, f32x4.splat(MAGIC));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(2.1219444e-4)));
  let p = f32x4.splat(1.98756915e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.50000001201));
  p = f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), f32x4.add(r, f32x4.splat(1)));
  // n, from the lowest bits of `shifted`, becomes the exponent.
  return f32x4.mul(p, i32x4.add(i32x4.shl(shifted, 23), i32x4.splat(0x3f800000)));
}

/**
 * GELU in its tanh form (Hendrycks & Gimpel, 2016, arXiv:1606.08415): x / (1 + e^(-2y)), y = sqrt(2 / pi) * (x + 0.044715 x^3).
 */
// @ts-ignore: decorator
@inline
export function gelu4(x: v128): v128 {
  const cube = f32x4.mul(f32x4.mul(x, x), f32x4.splat(0.044715 * -1.5957691216));
  const y = f32x4.mul(x, f32x4.add(cube, f32x4.splat(-1.5957691216)));
  return f32x4.div(x, f32x4.add(f32x4.splat(1), exp4(y)));
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
