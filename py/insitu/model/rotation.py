"""The rotation that gives a model its short vectors, read from its small file.

A rotation is an orthonormal matrix R: for a unit vector v, `R @ v` has the same dot products as v, and its first `dim`
components are the ones worth keeping. How one is fitted: `models/minilm-l6/fit_rotation.py`.

The file, unpacked by zlib, holds the first rows (rows x full_dim, row-major) in codes of four bits, the first of each
byte in its upper half: -8 to 7 with 8 added. Each row is on a scale of its own that is not stored. The file's size
tells the number of rows. Rounding bends the rows a little, so reading makes them orthonormal again, each against those
before it: nothing is lost at full size, whatever was rounded. The rows that the file leaves out only have to complete
the basis: no size between `rows` and `full_dim` is offered. They are made from the axes, in order. (A stored row may
be an axis too: a single 1, chosen because it carries much and packs into a byte or two.)
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.errors import ModelCorrupt
from insitu.model.cache import check_file
from insitu.model.manifest import Manifest


def read_rotation(manifest: Manifest) -> NDArray[np.float32] | None:
    """The rotation that a manifest names, its hash checked, or None if it names none."""
    named = manifest.rotation
    if named is None:
        return None
    path = Path(str(manifest.folder / named.file))
    check_file(path, named, "Install insitu again.")
    return load_rotation(path, manifest.full_dim)


def load_rotation(path: Path, full_dim: int = 384) -> NDArray[np.float32]:
    """The rotation in `path`: float32 (full_dim x full_dim), orthonormal to 1e-6, the strongest output first.

    The same on every machine to about 1e-7: plain float64 sums, no LAPACK. Raises `ModelCorrupt` if the file holds no
    whole number of rows, more rows than `full_dim`, or rows that depend on each other.
    """
    try:
        packed = np.frombuffer(zlib.decompress(path.read_bytes()), np.uint8)
    except zlib.error as error:
        raise ModelCorrupt(f"{path.name} cannot be unpacked ({error}). Install insitu again.") from error
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1).astype(np.int8) - 8
    rows, rest = divmod(codes.size, full_dim)
    if rest or not 0 < rows <= full_dim:
        raise ModelCorrupt(
            f"{path.name} has {codes.size} codes, not 1 to {full_dim} rows of {full_dim}. Install insitu again."
        )
    basis = np.zeros((full_dim, full_dim))
    count = 0
    for row in codes.reshape(rows, full_dim).astype(np.float64):
        rest_of_row = _against(row / max(float(np.linalg.norm(row)), 1e-12), basis[:count])
        length = float(np.linalg.norm(rest_of_row))
        if length < 0.5:
            raise ModelCorrupt(f"{path.name}: row {count} depends on those before it. Install insitu again.")
        basis[count] = rest_of_row / length
        count += 1
    for axis in range(full_dim):
        if count == full_dim:
            break
        rest_of_row = _against(np.eye(1, full_dim, axis)[0], basis[:count])
        length = float(np.linalg.norm(rest_of_row))
        if length > 1e-3:  # else the basis covers this unit vector already, and the next one will do
            basis[count] = rest_of_row / length
            count += 1
    basis[np.abs(basis) < 1e-12] = 0  # what is left of a sum that is zero, of one sign or the other
    return basis.astype(np.float32)


def _against(vector: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """`vector` less its part in the span of the rows of `basis`; again and again, since once leaves rounding behind."""
    for _ in range(3):
        vector = vector - (basis @ vector) @ basis
    return vector
