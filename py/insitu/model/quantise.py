"""float32 matrices to int8 with scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]


def quantise_rows(matrix: Float) -> tuple[Int8, Float]:
    """Symmetric int8, one scale per row: `matrix ~ codes * scales[:, None]`, codes -127..127. Zero rows: scale 0."""
    scales = np.abs(matrix).max(axis=1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    codes = np.clip(np.rint(matrix / safe[:, None]), -127, 127).astype(np.int8)
    return codes, scales.astype(np.float32)
