"""The synchronous face on the real model: arrays as a Python user expects them, and what it refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import insitu
from insitu.errors import DimUnsupported, IndexNotFound, InvalidArgument, TaskUnsupported


@pytest.fixture(scope="module")
def model(model_dir: Path) -> insitu.Model:
    assert model_dir
    return insitu.open_model("minilm-l6")


def test_texts_become_unit_vectors(model: insitu.Model) -> None:
    vectors = model.encode(["A cat.", "A kitten.", "An invoice of last year."])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosines = model.similarity(vectors, vectors)
    assert cosines.shape == (3, 3)
    assert cosines[0, 1] > cosines[0, 2] + 0.3


def test_one_text_becomes_one_vector(model: insitu.Model) -> None:
    assert model.encode("A cat.", dim=64).shape == (64,)
    assert model.encode([], dim=64).shape == (0, 64)
    assert model.similarity(model.encode_query("a cat"), model.encode_document(["A cat.", "x"])).shape == (1, 2)


def test_a_shorter_vector_is_the_begin_of_the_long_one(model: insitu.Model) -> None:
    long, short = model.encode("A cat."), model.encode("A cat.", dim=128)
    assert np.allclose(long[:128] / np.linalg.norm(long[:128]), short, atol=1e-5)


def test_empty_endless_and_broken_texts_have_vectors(model: insitu.Model) -> None:
    vectors = model.encode(["", " ", "word " * 200_000, "\ud800", "\0"], dim=16)
    assert np.isfinite(vectors).all()


def test_wrong_arguments_are_named(model: insitu.Model, tmp_path: Path) -> None:
    with pytest.raises(DimUnsupported):
        model.encode("x", dim=385)
    with pytest.raises(TaskUnsupported):
        model.encode("x", task="poem")
    with pytest.raises(InvalidArgument, match="64 and 32"):
        model.similarity(model.encode("x", dim=64), model.encode("x", dim=32))
    with pytest.raises(IndexNotFound):
        insitu.open_index(tmp_path)


def test_inside_an_event_loop_the_await_to_write_is_named(model: insitu.Model) -> None:
    async def call() -> None:
        model.encode("x")

    with pytest.raises(InvalidArgument, match=r"await model\.embedder\.embed"):
        asyncio.run(call())


def test_a_site_is_indexed_and_searched(tmp_path: Path, model: insitu.Model) -> None:
    assert model
    (tmp_path / "a.html").write_text("<main><h1 id=a>Bread</h1><p>Let the dough rise and bake it.</main>")
    (tmp_path / "b.html").write_text("<main><h1 id=b>Knives</h1><p>Sharpen them on a stone.</main>")
    report = insitu.index_site(tmp_path, dim=64)
    assert (report.pages, report.chunks, report.space.split(":")[2]) == (2, 2, "64")
    index = insitu.open_index(tmp_path)
    for _ in range(2):  # each call has an event loop of its own; what the first one loaded serves the second
        assert [hit.url for hit in index.search("my blade is blunt", k=2)] == ["b.html#b", "a.html#a"]


def test_importing_insitu_needs_the_standard_library_alone() -> None:
    script = "import sys; before = set(sys.modules); import insitu; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} - sys.stdlib_module_names == {"insitu"}
    assert set(insitu.__all__) <= set(dir(insitu))
    for name in insitu.__all__:
        assert getattr(insitu, name)
    with pytest.raises(AttributeError):
        _ = insitu.nothing


def test_a_collection_is_awaited_where_a_loop_runs_and_is_bytes_in_both(model_dir: Path, tmp_path: Path) -> None:
    assert model_dir

    async def awaited() -> bytes:
        opening = insitu.open_collection(tmp_path / "notes")
        with pytest.raises(InvalidArgument, match=r"await insitu\.open_collection"):
            opening.put([])
        notes = await opening
        assert notes is opening.collection
        await notes.put([{"id": "car", "text": "I left the blue car behind the town hall."}])
        return await notes.export()

    file = asyncio.run(awaited())
    copy = insitu.open_collection(tmp_path / "copy")
    assert copy.import_(file) == 1
    assert [hit.id for hit in copy.search("where did I park")] == ["car"]
    assert copy.export().splitlines()[0] == file.splitlines()[0]
    with pytest.raises(insitu.InsituError, match="cut or was altered"):
        copy.import_(file[:-9])
    stats = copy.stats()
    assert (stats["documents"], stats["device"]["used"]) == (1, "cpu") and stats["device"]["threads"] >= 1
