"""`dim="auto"`: the rule, and that a collection keeps what it chose."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fake_runtime import FakeRuntime, fake_lock
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.embedder import Embedder
from insitu.errors import DimUnsupported

GIB = float(2**30)
FAST = 1e7  # bytes in a millisecond, as one core of a desktop scans
GEMMA = replace(fake_lock(full_dim=768), dims=(768, 512, 256, 128))
MINILM = replace(fake_lock(full_dim=384), dims=(384, 256, 128, 64))


@pytest.mark.parametrize(
    ("scan", "memory", "room", "dim"),
    [
        (FAST, 8 * GIB, None, 768),
        (FAST, 8 * GIB, 10_000_000_000, 768),
        (FAST, 4 * GIB, None, 512),
        (FAST, 2 * GIB, None, 256),
        (FAST, GIB, None, 128),
        (FAST, 8 * GIB, 600_000_000, 512),
        (FAST, 8 * GIB, 0, 128),
        (3e6, 8 * GIB, None, 512),
        (1.4e6, 8 * GIB, None, 256),
        (1e5, GIB / 4, 0, 128),
    ],
)
def test_the_largest_size_that_suits_the_device_is_chosen(
    scan: float, memory: float, room: int | None, dim: int
) -> None:
    assert GEMMA.choose_dim((scan, memory), room)[0] == dim


def test_the_reason_names_what_a_larger_size_would_be_too_much_for() -> None:
    assert GEMMA.choose_dim((FAST, 8 * GIB), None) == (768, "full size")
    assert GEMMA.choose_dim((FAST, 4 * GIB), None) == (512, "100000 of 768 are 77.6 MB; memory suits 67.1")
    few = GEMMA.choose_dim((5e5, 2 * GIB), 10**8)[1]
    assert few == "100000 of 256 are 26.4 MB; scan suits 10.0, room suits 10.0"


def test_no_size_below_128_is_chosen_and_a_model_of_one_size_has_that() -> None:
    assert MINILM.choose_dim((1.0, 1.0), 0)[0] == 128
    assert replace(MINILM, dims=(384,)).choose_dim((1.0, 1.0), 0)[0] == 384
    assert replace(fake_lock(full_dim=64), dims=(64, 32)).choose_dim((1.0, 1.0), 0)[0] == 32


def embedder(scan: float, memory: float) -> Embedder:
    runtime = FakeRuntime(lock=MINILM)
    runtime.measured = (scan, memory)
    return Embedder(runtime, runtime.lock)


def test_a_collection_keeps_the_size_that_was_chosen_when_it_was_made(tmp_path: Path) -> None:
    async def run() -> None:
        store = FolderStore(tmp_path)
        made = await Collection.open(embedder(FAST, 2 * GIB), store, dim="auto")
        stats = await made.stats()
        assert stats["dim"] == 256 and stats["auto"].startswith("100000 of 384 are 39.2 MB")
        await made.put([{"id": "a", "text": "a cat"}])
        # Another device would have another size; what is stored decides.
        again = await Collection.open(embedder(FAST, 8 * GIB), store, dim="auto", reembed=True)
        stats = await again.stats()
        assert (stats["dim"], stats["auto"], stats["documents"]) == (256, "", 1)
        await again.reembed(dim="auto")
        assert again.meta.dim == 256
        store.close()

    asyncio.run(run())


def test_embed_takes_the_size_and_tells_it(tmp_path: Path) -> None:
    model = embedder(FAST, 2 * GIB)
    assert model.auto is None
    found = asyncio.run(model.embed(["a cat"], dim="auto"))
    assert found.block.dim == 256 and model.auto is not None and model.auto[0] == 256
    with pytest.raises(DimUnsupported):
        asyncio.run(model.embed(["a cat"], dim="most"))
