// Weights as the ONNX file has them to panels (see product.ts). Once, when a model is opened.

import { BLOCK, PANEL } from "../ops";
import { NARROW, WIDE } from "./product";

/** Where column `n`, a multiple of four, is in the file: with `halves`, fours of its two halves come in turns. */
// @ts-ignore: decorator
@inline
function column(n: i32, N: i32, halves: bool): i32 {
  return halves ? (n >> 3) * 4 + (n & 4 ? N >> 1 : 0) : n;
}

/** int8 K x N at `from` to panels [N / 8][K / 2][8][2] at `to`. K is even, N a multiple of 8. */
export function packColumns(from: usize, to: usize, K: i32, N: i32, halves: bool): void {
  for (let n = 0; n < N; n += PANEL) {
    const low = from + <usize>column(n, N, halves);
    const high = from + <usize>column(n + 4, N, halves);
    for (let k = 0; k < K; k += 2) {
      const row = <usize>k * <usize>N;
      const next = row + <usize>N;
      const one = v128.load32_lane(high + row, v128.load32_zero(low + row), 1);
      const two = v128.load32_lane(high + next, v128.load32_zero(low + next), 1);
      v128.store(to, v128.shuffle<i8>(one, two, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      to += 16;
    }
  }
}

/** int8 K x N at `from` to panels [N / 8][K / 4][8][4] at `to`, the sum of each column to `sums` (int32, N). K is a multiple of 4. */
export function packBytes(from: usize, to: usize, sums: usize, K: i32, N: i32, halves: bool): void {
  packColumns(from, to, K, N, halves);
  for (let n = 0; n < N; n += PANEL) {
    let low = i32x4.splat(0);
    let high = low;
    for (let k = 0; k < K; k += 4) {
      const one = v128.load(to);
      const two = v128.load(to, 16);
      const left = v128.shuffle<i16>(one, two, 0, 8, 1, 9, 2, 10, 3, 11);
      const right = v128.shuffle<i16>(one, two, 4, 12, 5, 13, 6, 14, 7, 15);
      v128.store(to, left);
      v128.store(to, right, 16);
      low = i32x4.add(low, sum4x4(left));
      high = i32x4.add(high, sum4x4(right));
      to += 32;
    }
    v128.store(sums + (<usize>n << 2), low);
    v128.store(sums + (<usize>n << 2), high, 16);
  }
}

/** Of int8: four sums of four. */
// @ts-ignore: decorator
@inline
function sum4x4(x: v128): v128 {
  return i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_s(x));
}

/**
 * Codes [N][blocks][32] of `bits` (4: two a byte, the first one below) at `from`, float16 scales [N][blocks] at `scales`, to panels
 * [N / 8][blocks] of codes and eight scales at `to`.
 */
export function packBlocks(
  from: usize, scales: usize, to: usize, blocks: i32, N: i32, bits: i32, halves: bool,
): void {
  const bytes = <usize>(BLOCK * bits) >> 3;
  const size = bits == 8 ? WIDE : NARROW;
  for (let n = 0; n < N; n++) {
    const lane = <usize>(n & 7) << 1;
    const source = <usize>(column(n & ~3, N, halves) + (n & 3)) * <usize>blocks;
    let panel = to + <usize>(n >> 3) * <usize>blocks * size + lane;
    for (let block: usize = 0; block < <usize>blocks; block++) {
      let codes = from + (source + block) * bytes;
      const end = codes + bytes;
      let at = panel;
      for (; codes < end; codes += 2, at += 16) {
        const pair = <u32>load<u16>(codes);
        // 8 bits: two channels. 4 bits: four, c0 c1 and c2 c3, of which c0 and c2, c1 and c3 share a byte.
        store<u16>(at, bits == 8 ? pair ^ 0x8080 : (pair & 0xf00f) | ((pair & 0x0f00) >> 4) | ((pair & 0x00f0) << 4));
      }
      store<u16>(panel + size - 16, load<u16>(scales + ((source + block) << 1)));
      panel += size;
    }
  }
}
