"""Variants of one model: each may ask what another embedded, and only the one that made vectors adds to them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fake_runtime import FakeRuntime, fake_lock
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.embedder import Embedder
from insitu.errors import IndexCorrupt, SpaceMismatch
from insitu.index.search import Index
from insitu.site import build_index

INT8 = fake_lock()
Q4 = replace(INT8, variant="q4")
OTHER = replace(Q4, weights="0" * 64)


def test_a_space_is_asked_by_another_variant_and_by_nothing_else() -> None:
    made = INT8.space(8).name
    assert INT8.space(8).asks(made) and Q4.space(8).asks(made)
    assert not Q4.space(16).asks(made)
    assert not OTHER.space(8).asks(made)
    assert not replace(Q4, prompts={"query": "q: "}).space(8).asks(made)
    assert not replace(Q4, name="int8").space(8).asks(made)


def test_another_variant_asks_a_collection_and_does_not_add_to_it(tmp_path: Path) -> None:
    async def run() -> None:
        store = FolderStore(tmp_path)
        made = await Collection.open(Embedder(FakeRuntime(lock=INT8), INT8), store)
        await made.put([{"id": "cat", "text": "a cat"}, {"id": "tax", "text": "income tax"}])
        asking = await Collection.open(Embedder(FakeRuntime(lock=Q4), Q4), store)
        assert [hit.id for hit in await asking.search("a cat", 1)] == ["cat"]
        with pytest.raises(SpaceMismatch, match="q4"):
            await asking.put([{"id": "dog", "text": "a dog"}])
        # Nothing of these is embedded.
        assert (await asking.put([{"id": "cat", "text": "a cat"}])).unchanged == 1
        assert await asking.delete(["tax"]) == 1
        await asking.reembed()
        assert asking.meta.space == Q4.space(16).name
        assert (await asking.put([{"id": "dog", "text": "a dog"}])).embedded == 1
        with pytest.raises(SpaceMismatch):
            await Collection.open(Embedder(FakeRuntime(lock=OTHER), OTHER), store)
        store.close()

    asyncio.run(run())


def test_another_variant_asks_an_index(tmp_path: Path) -> None:
    async def run() -> None:
        (tmp_path / "a.html").write_text("<h1>Cats</h1><p>a cat sleeps</p>")
        await build_index(tmp_path, tmp_path / "insitu", FakeRuntime(tmp_path / "insitu", INT8), INT8)
        entry = (tmp_path / "insitu/index.json").read_bytes()
        index = await Index.open(FakeRuntime(tmp_path / "insitu", Q4), Q4, entry)
        assert [hit.url for hit in await index.search("cat")] == ["a.html"]
        with pytest.raises(SpaceMismatch):
            await Index.open(FakeRuntime(tmp_path / "insitu", OTHER), OTHER, entry)
        data = json.loads(entry)
        assert data["asks"] == {}
        del data["asks"]  # as earlier releases wrote it
        await Index.open(FakeRuntime(tmp_path / "insitu", INT8), INT8, json.dumps(data).encode())
        for wrong in ({"q4": "../model.lock.json"}, ["q4"], {"q4": 1}):
            with pytest.raises(IndexCorrupt):
                await Index.open(
                    FakeRuntime(tmp_path / "insitu", INT8), INT8, json.dumps({**data, "asks": wrong}).encode()
                )

    asyncio.run(run())
