"""The rotation that gives MiniLM its short vectors."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from insitu.errors import ModelCorrupt
from insitu.model.rotation import load_rotation

FILE = ROOT / "models/minilm-l6/rotation.bin"


def test_the_rotation_is_orthonormal() -> None:
    rotation = load_rotation(FILE).astype(np.float64)
    assert rotation.shape == (384, 384)
    assert np.abs(rotation @ rotation.T - np.eye(384)).max() < 1e-6


def test_the_stored_rows_come_first() -> None:
    """What reading changes of a row is what rounding took from it."""
    packed = np.frombuffer(zlib.decompress(FILE.read_bytes()), np.uint8)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1, 384).astype(np.float64) - 8
    rows = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    assert len(rows) == 256
    kept = (rows * load_rotation(FILE)[:256]).sum(axis=1)
    assert kept[:64].min() > 0.99
    assert kept[64:128].min() > 0.96  # coarser in the file: fit_rotation.py
    assert (np.sort(rows[128:]).T[-1] == 1).all(), "from there on axes"
    assert kept[128:].min() > 0.6, "and so much of each lies outside all before"


def test_the_file_is_small_enough_to_be_shipped() -> None:
    assert FILE.stat().st_size < 16_000


@pytest.mark.parametrize("size", [1, 3, 8])
def test_any_full_size_and_number_of_rows_can_be_read(tmp_path: Path, size: int) -> None:
    rows = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0][:size]
    path = tmp_path / "small.bin"
    codes = (np.rint(rows * 7) + 8).astype(np.uint8).reshape(-1, 2)
    path.write_bytes(zlib.compress((codes[:, 0] << 4 | codes[:, 1]).tobytes()))
    rotation = load_rotation(path, full_dim=8)
    assert np.abs(rotation @ rotation.T - np.eye(8)).max() < 1e-6
    assert (rotation[:size] * rows).sum(axis=1).min() > 0.97


@pytest.mark.parametrize(
    "content",
    [
        b"",
        zlib.compress(b"\1" * 384)[:-3],
        *(zlib.compress(rows) for rows in (b"", b"\1" * 191, b"\1" * (192 * 385), b"\1" * 384, b"\x88" * 192)),
    ],
    ids=["empty", "cut", "no rows", "part of a row", "too many rows", "equal rows", "zeros"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rotation.bin"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt, match=r"rotation\.bin"):
        load_rotation(path)
