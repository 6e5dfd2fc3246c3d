"""Smoothing: what moves the resolution of int8 activations to where it is needed.

A few channels of a transformer's hidden states are many times larger than the rest, always the same ones, so one scale
per token leaves the rest a few codes only. Dividing each channel by a factor of its own and multiplying the weights
that read it by the same changes nothing in exact arithmetic, and evens the channels (SmoothQuant, Xiao et al., 2022,
arXiv:2211.10438). How the factors are fitted: `models/minilm-l6/fit_smoothing.py`.

The file holds, for each layer, the factors before `qkv` and before `up`, one byte a channel: 2 ** ((byte - 128) / 16).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.errors import ModelCorrupt
from insitu.model.cache import check_file
from insitu.model.manifest import Manifest

Float = NDArray[np.float32]

# The matrix products that a normalisation feeds: only there are the channels uneven enough.
SMOOTHED = ("qkv", "up")
STEPS_PER_OCTAVE = 16


def to_bytes(factors: NDArray[np.floating]) -> bytes:
    """Positive factors, any shape, as bytes: the nearest 1/16 octave, 1/256 to 245."""
    steps = np.rint(np.log2(factors) * STEPS_PER_OCTAVE) + 128
    return bytes(np.clip(steps, 0, 255).astype(np.uint8).tobytes())


def read_smoothing(manifest: Manifest, layers: int, size: int) -> Mapping[str, Float]:
    """Factors (size,) by the name of the matrix product, 'layer.0.qkv'; empty if the manifest names no file.

    Raises `ModelCorrupt` if the file is not the one that the manifest names, or does not fit the model.
    """
    named = manifest.smoothing
    if named is None:
        return {}
    path = Path(str(manifest.folder / named.file))
    check_file(path, named, "Install insitu again.")
    data = np.fromfile(path, np.uint8)
    if data.size != layers * len(SMOOTHED) * size:
        raise ModelCorrupt(
            f"{named.file} has {data.size} bytes: not one for each of {layers} layers and {size} channels."
        )
    factors = np.exp2((data.astype(np.float32) - 128) / STEPS_PER_OCTAVE).reshape(layers, len(SMOOTHED), size)
    return {f"layer.{layer}.{name}": factors[layer, i] for layer in range(layers) for i, name in enumerate(SMOOTHED)}
