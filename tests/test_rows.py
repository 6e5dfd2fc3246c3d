"""Token rows in 4 bits: packing, the export that has them, and tables that do not fit their lock."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.embedder import Embedder
from insitu.errors import ModelCorrupt, VariantUnsupported
from insitu.model import ensure, manifest
from insitu.model.export import export
from insitu.model.exported import read_lock
from insitu.model.quantise import pack_rows, packed_bytes, quantise_rows, unpack_rows
from insitu.model.rows import read_rows
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make
from make_published import make_gemma
from page.conftest import wait
from test_cli import insitu

# Given to exports, they round to the nearest and learn nothing first: what is asked here is about rows.
ONE: dict[str, Any] = {"none": 1}
TEXTS = ["the keeper of the lamp", "tulips", "a text about nothing in particular, " * 9]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny") / "gemma")


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows") / "packed"
    return export(str(checkpoint), "int8", rows=4, out=out, moments=ONE)


def slowly(record: bytes, size: int) -> list[int]:
    """One row, as the format is written down."""

    def nibble(first: int, i: int) -> int:
        byte = record[first + i // 2]
        return (byte >> 4 if i % 2 else byte & 15) - 8

    return [nibble(0, i) * nibble((size + 1) // 2, i // 32) for i in range(size)]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 130), st.integers(0, 2**32 - 1))
def test_unpacked_rows_are_what_the_format_says_and_near_what_was_packed(size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = (random.normal(size=(5, size)) * np.exp(random.normal(size=(5, 1)))).astype(np.float32)
    rows[3] = 0
    rows[4, : size // 2] = 0
    codes, scales = pack_rows(rows)
    assert codes.shape == (5, packed_bytes(size)) and codes.dtype == np.uint8
    found = unpack_rows(codes, size)
    assert found.dtype == np.int8 and found.tolist() == [slowly(row.tobytes(), size) for row in codes]
    # With the factor for 1.1 no component is off by more than 11 scales, sixtieths of the row's largest:
    # the one that is chosen does no worse in the sum of a group.
    off = np.square(np.pad(found * scales[:, None] - rows, ((0, 0), (0, -size % 32)))).reshape(5, -1, 32).mean(axis=2)
    assert (np.sqrt(off) <= 11.1 / 60 * np.abs(rows).max(axis=1, keepdims=True) + 1e-12).all()
    assert (found[rows == 0] == 0).all() and scales[3] == 0


def test_rows_in_4_bits_keep_nine_tenths_of_a_random_table() -> None:
    rows = np.random.default_rng(1).normal(size=(500, 768)).astype(np.float32)
    codes, scales = pack_rows(rows)
    assert codes.nbytes + scales.nbytes == 500 * 400
    off = np.linalg.norm(unpack_rows(codes, 768) * scales[:, None] - rows) / np.linalg.norm(rows)
    assert off < 0.09  # with one scale for a row and no factors: 0.12


def test_an_export_with_rows_in_4_bits_has_half_the_table_and_near_vectors(checkpoint: Path, packed: Path) -> None:
    usual = export(str(checkpoint), "int8", out=packed.with_name("usual"), moments=ONE)
    small, large = (NativeRuntime.open(folder, threads=1) for folder in (packed, usual))
    assert (small.lock.row_bits, large.lock.row_bits) == (4, 8)
    assert small.lock.rows and small.lock.rows.bytes == 1024 * (48 + 2 + 4)
    assert large.lock.rows and large.lock.rows.bytes == 1024 * (96 + 4)
    assert (packed / small.lock.graph.file).read_bytes() == (usual / large.lock.graph.file).read_bytes()
    found, wanted = (
        np.frombuffer(wait(Embedder(runtime, runtime.lock).embed(TEXTS, dim=96)).block.vectors(), "<f4")
        for runtime in (small, large)
    )
    cosines = (found * wanted).reshape(len(TEXTS), -1).sum(axis=1)
    assert 0.98 < cosines.min() < 0.9999, cosines


def test_vectors_of_other_rows_are_of_another_space(checkpoint: Path, packed: Path) -> None:
    known = manifest.load(str(checkpoint))
    assert read_lock(packed).weights == known.identity(4) != known.identity() == known.identity(32)


def test_an_export_with_rows_in_4_bits_is_not_made_again(
    checkpoint: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    folder = tmp_path / "tiny-gemma-int8"
    shutil.copytree(packed, folder)
    written = (folder / "model.lock.json").stat().st_mtime_ns
    assert ensure(str(checkpoint), "int8") == folder
    assert (folder / "model.lock.json").stat().st_mtime_ns == written
    assert read_lock(folder).row_bits == 4


def test_what_has_no_such_rows_is_named(checkpoint: Path, tmp_path: Path) -> None:
    published = make_gemma(tmp_path / "published", checkpoint, ("fp32",))
    for name, variant, bits in ((checkpoint, "fp32", 4), (checkpoint, "int8", 3), (published, "fp32", 4)):
        with pytest.raises(VariantUnsupported, match=f"{bits} bits"):
            export(str(name), variant, rows=bits, out=tmp_path / "out")
    done = insitu("models", "export", checkpoint, "--variant", "fp32", "--rows", "int4", "--out", tmp_path / "out")
    assert done.returncode == 1 and "variant-unsupported" in done.stderr and "4 bits" in done.stderr


@pytest.mark.parametrize("change", [{"row_count": 1025}, {"row_bits": 8}, {"row_bits": 3}, {"full_dim": 64}])
def test_a_table_that_does_not_fit_its_lock_is_refused(packed: Path, change: dict[str, int]) -> None:
    lock = dataclasses.replace(read_lock(packed), **change)  # type: ignore[arg-type]  # of any field
    with pytest.raises(ModelCorrupt, match="xport"):
        read_rows(packed / "rows.int8.bin", lock)


def test_a_table_of_4_bits_that_is_cut_is_refused(packed: Path, tmp_path: Path) -> None:
    table = (packed / "rows.int8.bin").read_bytes()
    (tmp_path / "rows.int8.bin").write_bytes(table[: 1023 * 54])
    with pytest.raises(ModelCorrupt, match="1024 rows"):
        read_rows(tmp_path / "rows.int8.bin", read_lock(packed))


def test_packing_does_better_than_one_scale_where_a_row_is_uneven() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 64)).astype(np.float32)
    rows[:, 32:] /= 20
    codes, scales = pack_rows(rows)
    eight, eight_scales = quantise_rows(rows)
    small = np.abs(unpack_rows(codes, 64) * scales[:, None] - rows)[:, 32:].mean()
    assert small < 3 * np.abs(eight * eight_scales[:, None] - rows)[:, 32:].mean()
