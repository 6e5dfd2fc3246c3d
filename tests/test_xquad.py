"""What sizes and codes cost on XQuAD, where its file is at hand (INSITU_XQUAD)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eval import xquad
from insitu.embedder import Embedder
from insitu.runtime.native import NativeRuntime

# Measured: see models/minilm-l6/README.md. float32 sentence-transformers gives 0.940 at 384.
LEAST = {384: 0.93, 256: 0.93, 128: 0.91, 64: 0.86}


@pytest.fixture(scope="module")
def rows(model_dir: Path) -> list[xquad.Row]:
    data = xquad.load()
    if data is None:
        pytest.skip(f"{xquad.VARIABLE} names no file")
    runtime = NativeRuntime.open(model_dir)
    return asyncio.run(xquad.evaluate(Embedder(runtime, runtime.lock), data, runtime.lock.dims))


@pytest.mark.slow
def test_short_vectors_keep_most_of_the_ranking(rows: list[xquad.Row], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{xquad.table(rows)}")
    assert {row.dim: row.vectors >= LEAST[row.dim] for row in rows} == dict.fromkeys(LEAST, True)


@pytest.mark.slow
def test_codes_bring_the_same_ten_as_float32(rows: list[xquad.Row]) -> None:
    assert all(row.recall >= 0.99 for row in rows), rows
    assert all(abs(row.codes - row.vectors) <= 0.005 for row in rows), rows


@pytest.mark.slow
def test_rescoring_gives_short_vectors_the_full_ranking_back(rows: list[xquad.Row]) -> None:
    full = next(row for row in rows if row.dim == 384)
    assert all(abs(row.rescored - full.codes) <= 0.005 for row in rows), rows
