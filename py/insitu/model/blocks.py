"""Weights in blocks along the channels they read, each block with its own scale: onnxruntime's MatMulNBits.

Weight ~ (code - 2^(bits - 1)) * scale. The scale of a block is searched, not taken from its largest weight: of some
candidates the one with the least squared error, then the one that fits the chosen codes best (least squares).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from insitu.model.feedback import BLOCK, Float64, round_weights
from insitu.model.graph import MICROSOFT, Graph
from insitu.model.quantise import Float

# Scales tried, relative to the one that puts a block's largest weight on the lowest code. At 8 bits rounding is so fine
# that the first is best; at 4 bits cutting the largest weight off often gains more than it loses.
CANDIDATES = {8: (1.0,), 4: tuple(np.linspace(0.7, 1.1, 17))}

UInt8 = NDArray[np.uint8]


def quantise_blocks(weight: Float, bits: int, moments: Float64 | None = None) -> tuple[UInt8, Float]:
    """`weight` (K x N) to codes (N x K, uint8 below 2^bits) and scales (N x ceil(K / 32)), exact in float16.

    `moments`: see `round_weights`.
    """
    zero = 1 << (bits - 1)

    def rounded(part: Float64, scales: Float64) -> Float64:
        found: Float64 = np.clip(np.rint(part / np.where(scales != 0, scales, 1)), -zero, zero - 1)
        return found

    def search(part: Float64, counts: Float64) -> Float64:
        # The largest weight, with its sign, goes to the code -zero, which has no counterpart of the other sign.
        largest = np.take_along_axis(part, np.abs(part).argmax(axis=0)[None], axis=0)[0]
        least, best = np.full(largest.shape, np.inf), np.zeros_like(largest)
        counts = counts[:, None]
        for factor in CANDIDATES[bits]:
            scales = _half(largest * (-factor / zero))
            error = (counts * np.square(part - rounded(part, scales) * scales)).sum(axis=0)
            better = error < least
            least, best = np.where(better, error, least), np.where(better, scales, best)
        codes = rounded(part, best)
        squares = (counts * np.square(codes)).sum(axis=0)
        fitted = _half((counts * part * codes).sum(axis=0) / np.where(squares > 0, squares, 1))
        fits = (counts * np.square(part - codes * fitted)).sum(axis=0) < least
        found: Float64 = np.where(fits, fitted, best)
        return found

    codes, scales = round_weights(weight, moments, search, -zero, zero - 1, per_block=True)
    padded = np.full((weight.shape[1], len(scales) * BLOCK), zero, np.uint8)
    padded[:, : len(weight)] = codes.T + zero
    return padded, np.ascontiguousarray(scales.T)


def _half(scales: Float64) -> Float64:
    return scales.astype(np.float16).astype(np.float64)


def linear_in_blocks(bits: int) -> Callable[[Graph, str, Float, str], str]:
    """`x @ weight` with float32 activations, which need no smoothing, and weights of `bits` in blocks of 32."""

    def linear(graph: Graph, x: str, weight: Float, name: str, smoothing: Float | None = None) -> str:
        inputs, outputs = weight.shape
        codes, scales = quantise_blocks(weight, bits, graph.moments.get(name))
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
