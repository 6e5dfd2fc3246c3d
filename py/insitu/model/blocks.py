"""Weights in blocks along the channels they read, each block with its own scale: onnxruntime's MatMulNBits.

Weight ~ (code - 2^(bits - 1)) * scale. The scale of a block is searched, not taken from its largest weight: of some
candidates the one with the least squared error, then the one that fits the chosen codes best (least squares).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from insitu.model.graph import MICROSOFT, Graph
from insitu.model.quantise import Float

BLOCK = 32
# Scales tried, relative to the one that puts a block's largest weight on the lowest code. At 8 bits rounding is so fine
# that the first is best; at 4 bits cutting the largest weight off often gains more than it loses.
CANDIDATES = {8: (1.0,), 4: tuple(np.linspace(0.7, 1.1, 17))}

UInt8 = NDArray[np.uint8]


def quantise_blocks(weight: Float, bits: int) -> tuple[UInt8, Float]:
    """`weight` (K x N) to codes (N x K, uint8 below 2^bits) and scales (N x ceil(K / 32)), exact in float16."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    parts = padded.reshape(-1, BLOCK)
    zero = 1 << (bits - 1)
    # The largest weight, with its sign, goes to the code -zero, which has no counterpart of the other sign.
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=1)[:, None], axis=1)
    least = np.full((len(parts), 1), np.inf, np.float32)
    best = np.zeros_like(largest)
    codes = np.zeros(parts.shape, np.int16)
    for factor in CANDIDATES[bits]:
        scales = _half(largest * np.float32(-factor / zero))
        found = _codes(parts, scales, zero)
        error = np.square(parts - found * scales).sum(axis=1, keepdims=True)
        better = error < least
        least, best = np.where(better, error, least), np.where(better, scales, best)
        codes = np.where(better, found, codes)
    squares = np.square(codes.astype(np.float32)).sum(axis=1, keepdims=True)
    fitted = _half((parts * codes).sum(axis=1, keepdims=True) / np.where(squares > 0, squares, 1))
    fits = np.square(parts - codes * fitted).sum(axis=1, keepdims=True) < least
    scales = np.where(fits, fitted, best)
    return (codes + zero).astype(np.uint8).reshape(outputs, -1), scales.reshape(outputs, blocks)


def _codes(parts: Float, scales: Float, zero: int) -> NDArray[np.int16]:
    safe = np.where(scales != 0, scales, np.float32(1))
    return np.clip(np.rint(parts / safe), -zero, zero - 1).astype(np.int16)


def _half(scales: Float) -> Float:
    return scales.astype(np.float16).astype(np.float32)


def linear_in_blocks(bits: int) -> Callable[[Graph, str, Float, str], str]:
    """`x @ weight` with float32 activations and weights of `bits` in blocks of 32."""

    def linear(graph: Graph, x: str, weight: Float, name: str) -> str:
        inputs, outputs = weight.shape
        codes, scales = quantise_blocks(weight, bits)
        packed = codes if bits == 8 else codes[:, 0::2] | (codes[:, 1::2] << 4)
        packed = packed.reshape(outputs, -1, BLOCK * bits // 8)
        return graph.add(
            "MatMulNBits",
            x,
            graph.weight(packed, f"{name}.weight"),
            graph.half(scales.reshape(-1), f"{name}.scale"),
            domain=MICROSOFT, K=inputs, N=outputs, bits=bits, block_size=BLOCK,
        )  # fmt: skip

    return linear
