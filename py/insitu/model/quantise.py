"""float32 matrices to int8, or to 4 bits, with scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]
UInt8 = NDArray[np.uint8]

# Components of a row in 4 bits that share a factor, and what their largest is tried at, relative to the lowest code.
GROUP = 32
CANDIDATES = (0.7, 0.8, 0.9, 1.0, 1.1)


def quantise_rows(matrix: Float) -> tuple[Int8, Float]:
    """Symmetric int8, one scale per row: `matrix ~ codes * scales[:, None]`, codes -127..127. Zero rows: scale 0."""
    scales = np.abs(matrix).max(axis=1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    codes = np.clip(np.rint(matrix / safe[:, None]), -127, 127).astype(np.int8)
    return codes, scales.astype(np.float32)


def pack_rows(matrix: Float) -> tuple[UInt8, Float]:
    """Rows in 4 bits (count x packed bytes), and a scale for each: `matrix ~ unpack_rows(packed, size) * scales`.

    A component is code * factor * scale: codes of -8..7 (two in a byte, the first in its lower half, 8 added), and one
    factor of -8..7 for each 32 of them, packed behind the codes in the same way. A product of the two is an integer
    from -56 to 64, so unpacked rows are int8 rows with a scale, exactly, wherever they are unpacked.
    """
    count, size = matrix.shape
    groups = np.zeros((count, -(-size // GROUP) * GROUP), np.float32)
    groups[:, :size] = matrix
    groups = groups.reshape(count, -1, GROUP)
    # Not by 64: the factor for a largest weight below zero would be 8, which there is not. Measured: DESIGN.md.
    scales = (np.abs(matrix).max(axis=1) / np.float32(60)).astype(np.float32)
    safe = np.where(scales > 0, scales, np.float32(1))[:, None]
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[..., None], axis=2)[..., 0]
    least = np.full(largest.shape, np.inf, np.float32)
    factors, codes = np.zeros(largest.shape, np.int8), np.zeros(groups.shape, np.int8)
    for candidate in CANDIDATES:
        factor = np.clip(np.rint(largest * np.float32(-candidate / 8) / safe), -8, 7)
        factor[factor == 0] = 1
        step = (factor * safe)[..., None]
        found = np.clip(np.rint(groups / step), -8, 7)
        error = np.square(groups - found * step).sum(axis=2)
        better = error < least
        least[better], factors[better], codes[better] = error[better], factor[better], found[better]
    parts = _nibbles(codes.reshape(count, -1)[:, :size]), _nibbles(factors)
    return np.concatenate(parts, axis=1), scales


def packed_bytes(size: int) -> int:
    """Bytes of a row in 4 bits, without its scale."""
    return (size + 1) // 2 + (-(-size // GROUP) + 1) // 2


def unpack_rows(packed: UInt8, size: int) -> Int8:
    """int8 rows (count, size) of `pack_rows`."""
    halves = np.stack([packed & 15, packed >> 4], axis=2).astype(np.int8) - np.int8(8)
    split = (size + 1) // 2
    codes, factors = (part.reshape(len(packed), -1) for part in (halves[:, :split], halves[:, split:]))
    return codes[:, :size] * np.repeat(factors, GROUP, axis=1)[:, :size]


def _nibbles(values: Int8) -> UInt8:
    """Two of a row's values (-8..7) in a byte."""
    padded: UInt8 = np.pad(values + np.int8(8), ((0, 0), (0, values.shape[1] % 2))).view(np.uint8)
    return padded[:, ::2] | padded[:, 1::2] << np.uint8(4)
