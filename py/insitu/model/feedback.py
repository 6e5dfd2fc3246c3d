"""Rounding with error feedback: what rounding a channel's weights costs is made up for by channels not rounded yet.

Optimal Brain Quantization in the order of GPTQ (Frantar et al., 2022, arXiv:2210.17323), in float64: exports of one
model on two machines are the same, as no code is near enough to its edge for 1e-12. See DESIGN.md, "Rounding".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from insitu.model.quantise import Float

Float64 = NDArray[np.float64]
Codes = NDArray[np.int16]

# Channels that are rounded before the rest is corrected, in one product; those of a block of weights share a scale.
BLOCK = 32
# Of the mean of the moments' diagonal, added to it: see DESIGN.md, "Rounding".
DAMPING = 0.1

Scale = Callable[[Float64, Float64], Float64]
"""(weights as they are by now n x N, what each of the n channels counts) -> a scale for each of N."""


def round_weights(
    weight: Float, moments: Float64 | None, scale: Scale, least: int, most: int, per_block: bool
) -> tuple[Codes, Float]:
    """Codes (K x N, `least` to `most`) of `weight` (K x N), and scales: ceil(K / 32) x N `per_block`, else 1 x N.

    `moments` (K x K) are the sums of products of the channels that `weight` reads; without them each weight is rounded
    to the nearest code.
    """
    count = len(weight)
    damped = np.eye(count) if moments is None else moments + DAMPING * moments.trace() / count * np.eye(count)
    ahead = np.linalg.cholesky(np.linalg.inv(damped)).T
    # Row by row in memory, as it is worked on: a transposed weight takes five times as long.
    left, counts = weight.astype(np.float64, order="C"), damped.diagonal()
    codes = np.zeros(weight.shape, np.int16)
    scales: list[Float64] = []
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK) if per_block else slice(count)
        if per_block or not start:
            scales.append(scale(left[block], counts[block]))
            safe = np.where(scales[-1] != 0, scales[-1], 1)
        part = left[start : start + BLOCK]  # a view: corrected in place
        own = ahead[start : start + BLOCK, start : start + BLOCK]
        lost = np.zeros_like(part)
        for i in range(len(part)):
            codes[start + i] = np.clip(np.rint(part[i] / safe), least, most)
            lost[i] = (part[i] - codes[start + i] * scales[-1]) / own[i, i]
            part[i:] -= own[i, i:, None] * lost[i]
        left[start + BLOCK :] -= ahead[start : start + BLOCK, start + BLOCK :].T @ lost
    return codes, np.array(scales, np.float32)
