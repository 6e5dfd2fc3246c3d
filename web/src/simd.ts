// Which build of the kernels this browser can run: `build.mjs` makes two of each from one source.

// The smallest module with a relaxed instruction (i32x4.relaxed_dot_i8x16_i7x16_add_s of three zeros): is it there?
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 20, 1, 18, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0,
  253, 15, 253, 147, 2, 26, 11,
]);

export const SIMD: "relaxed" | "plain" = WebAssembly.validate(RELAXED) ? "relaxed" : "plain";
