"""Token rows outside the graph: records of fixed size, and a list of hashes by which a part of them can be checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.errors import ModelCorrupt
from insitu.model import cache
from insitu.model.lock import ModelLock, RowBlocks
from insitu.model.quantise import Float, Int8, UInt8, packed_bytes
from insitu.runtime import FileRef

# A block is the least that the page asks a server for: a power of two of records, at most so many bytes. Larger blocks
# cost a cold question more bytes, smaller ones a longer list of hashes. See DESIGN.md, "Rows on demand".
BLOCK_BYTES = 1 << 15
HASH_BYTES = 16


def write_rows(
    folder: Path, variant: str, parts: Iterable[tuple[Int8 | UInt8 | Float, Float]]
) -> tuple[int, FileRef, RowBlocks]:
    """Write the table and the hashes of its blocks. `parts`, in order: codes (count, full_dim), or
    packed ones, and scales (count,).

    Returns how many rows there are, the table and its blocks.
    """
    table, hashes = folder / f"rows.{variant}.bin", folder / f"row-hashes.{variant}.bin"
    count = size = 0
    with table.open("wb") as file:
        for codes, scales in parts:
            bits: list[NDArray[np.uint8]] = [codes.view(np.uint8), scales.astype("<f4")[:, None].view(np.uint8)]
            size = bits[0].shape[1] + 4
            np.concatenate(bits, axis=1).tofile(file)
            count += len(scales)
    rows = 1 << (BLOCK_BYTES // size).bit_length() - 1
    with table.open("rb") as file:
        blocks = iter(lambda: file.read(rows * size), b"")
        hashes.write_bytes(b"".join(hashlib.sha256(block).digest()[:HASH_BYTES] for block in blocks))
    return count, cache.file_ref(table), RowBlocks(rows, cache.file_ref(hashes))


def read_rows(path: Path, lock: ModelLock) -> tuple[Int8 | UInt8 | Float, Float]:
    """Codes (row_count, full_dim), int8 or float32, or rows of 4 bits as they are packed, and scales (row_count,) of a
    table. Raises `ModelCorrupt`."""
    kinds: dict[int, Any] = {4: np.uint8, 8: np.int8, 32: "<f4"}
    if lock.row_bits not in kinds:
        raise ModelCorrupt(f"{path} has rows of {lock.row_bits} bits: this release reads 4, 8 and 32. Export it again.")
    size = (packed_bytes(lock.full_dim) if lock.row_bits == 4 else lock.full_dim * lock.row_bits // 8) + 4
    data = np.fromfile(path, np.uint8)
    if data.size != lock.row_count * size:
        raise ModelCorrupt(f"{path} does not hold {lock.row_count} rows of {lock.full_dim}. Export the model again.")
    table = data.reshape(lock.row_count, size)
    return table[:, :-4].view(kinds[lock.row_bits]), table[:, -4:].copy().view("<f4")[:, 0]
