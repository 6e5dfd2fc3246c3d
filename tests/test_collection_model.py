"""Random operations on a collection, held to a dictionary."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insitu.collection import collection as module
from insitu.collection import folder_content as content_module
from insitu.collection.collection import Collection
from insitu.collection.exchange import export_collection
from insitu.collection.folder import FolderStore
from notes import embedder, ids, opened

# 10,000 where there is time: see docs/development.md.
OPERATIONS = int(os.environ.get("INSITU_OPERATIONS", "1000"))
WORDS = ["red", "blue", "green", "cat", "dog", "bird", "house", "tree", "river"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=100).map(" ".join)
put = st.dictionaries(
    st.integers(0, 14).map(str),
    st.tuples(texts, st.sampled_from([None, "home", "work"]), st.one_of(st.none(), st.integers(-5, 5))),
    min_size=1,
    max_size=6,
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), put),
        st.tuples(st.just("put"), put),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 14).map(str), max_size=5)),
        st.tuples(st.sampled_from(["reopen", "tidy", "compact", "other"]), st.none()),
    ),
    min_size=5,
    max_size=40,
)


@given(operations)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_a_dictionary_that_is_searched(steps: list[tuple[str, Any]]) -> None:
    async def main(folder: Path) -> None:
        model: dict[str, Mapping[str, Any]] = {}
        notes = await opened(folder)
        other = await opened(folder)
        for step, value in steps:
            if step == "put":
                documents = [
                    {"id": id, "text": text, "fields": {"tag": tag, "date": date}}
                    for id, (text, tag, date) in value.items()
                ]
                await notes.put(documents)
                model |= {document["id"]: document for document in documents}
            elif step == "delete":
                assert await notes.delete(value) == len(model.keys() & set(value))
                for id in value:
                    model.pop(id, None)
            elif step == "reopen":
                notes.store.close()
                notes = await opened(folder)
            elif step == "tidy":
                await notes.tidy()
            elif step == "compact":
                await notes.store.compact()
            else:
                notes, other = other, notes
            await compare(notes, model)
        await compare(other, model)

    old = module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, content_module.SEGMENT_ROWS
    module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, content_module.SEGMENT_ROWS = 3, 4, 5
    try:
        with TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
    finally:
        module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, content_module.SEGMENT_ROWS = old


async def compare(notes: Collection, model: Mapping[str, Mapping[str, Any]]) -> None:
    hits = await notes.search("blue cat", k=50)
    assert sorted(ids(hits)) == sorted(model)
    worded = await notes.search("blue, cat", k=50, words=1)
    assert sorted(ids(worded)) == sorted(i for i, d in model.items() if {"blue", "cat"} & set(d["text"].split()))
    assert {hit.id: hit.fields for hit in hits} == {
        id: {name: value for name, value in document["fields"].items() if value is not None}
        for id, document in model.items()
    }
    listed = await notes.search(where={}, k=50)
    assert {hit.id: hit.text for hit in listed} == {id: document["text"] for id, document in model.items()}
    home = await notes.search("tree", k=50, where={"tag": "home", "date": {"gte": 0}})
    assert sorted(ids(home)) == sorted(
        id
        for id, d in model.items()
        if d["fields"]["tag"] == "home" and d["fields"]["date"] is not None and d["fields"]["date"] >= 0
    )
    stats = await notes.stats()
    assert (stats["documents"], stats["missing"]) == (len(model), 0)
    fresh = await notes.embedder.embed(["blue cat"], task="query", dim=notes.meta.dim)
    for hit in hits[:2]:
        alone = await notes.embedder.embed([hit.text], dim=notes.meta.dim)
        a, b = (memoryview(x.block.vectors()).cast("f") for x in (fresh, alone))
        assert hit.score == pytest.approx(sum(x * y for x, y in zip(a, b, strict=True)), abs=0.03)


async def export(notes: Collection) -> bytes:
    return b"".join([piece async for piece in export_collection(notes.store)])


async def restore(notes: Collection, file: bytes) -> None:
    async def read(start: int, count: int) -> bytes:
        return file[start : start + count]

    await notes.restore(read, len(file))


async def quick(folder: Path, **more: Any) -> Collection:
    notes = await opened(folder, **more)
    assert isinstance(notes.store, FolderStore)
    notes.store._db.execute("PRAGMA synchronous = OFF")  # thousands of waits for a disk prove nothing here
    return notes


@pytest.mark.slow
def test_many_operations_with_reopening_and_a_clock_that_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two openings of one collection; each operation by one of them at random, looked at through the other one."""
    for name, value in (("TAIL_SEGMENTS", 4), ("COMMIT_DOCUMENTS", 4), ("SEGMENT_ROWS", 30)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(content_module, "SEGMENT_ROWS", 30)
    chance = random.Random(11)
    clock = [2e9]
    monkeypatch.setattr("time.time", lambda: clock[0])
    counts: Counter[str] = Counter()

    async def main() -> None:
        model: dict[str, Mapping[str, Any]] = {}
        spaces = {False: embedder(), True: embedder(name="other")}
        space = False
        handles = [await quick(tmp_path), await quick(tmp_path)]
        file, kept, exported = b"", dict(model), space
        weights = {
            "put": 60,
            "delete": 20,
            "reopen": 8,
            "tidy": 6,
            "compact": 2,
            "export": 1,
            "import": 2,
            "reembed": 1,
        }
        for number in range(OPERATIONS):
            clock[0] += chance.choice([1, -3600, 60])
            step = chance.choices([*weights], [*weights.values()])[0]
            counts[step] += 1
            who = chance.randrange(2)
            notes = handles[who]
            if step == "put":
                documents: list[dict[str, Any]] = [
                    {
                        "id": id,
                        "text": " ".join(chance.choices(WORDS, k=chance.choice([1, 2, 3, 80]))),
                        "fields": {"tag": chance.choice([None, "home", "work"]), "date": chance.randrange(-5, 5)},
                    }
                    for id in {str(chance.randrange(15)) for _ in range(chance.choice([1, 1, 2, 6]))}
                ]
                if chance.random() < 0.3:  # texts that are there, with other fields
                    documents = [{**new, "text": model.get(str(new["id"]), new)["text"]} for new in documents]
                done = await notes.put(documents)
                same = [d["id"] for d in documents if d["id"] in model and model[d["id"]]["text"] == d["text"]]
                assert (done.unchanged, done.embedded) == (len(same), len(documents) - len(same))
                model |= {document["id"]: document for document in documents}
            elif step == "delete":
                gone = {str(chance.randrange(15)) for _ in range(chance.choice([1, 1, 4]))}
                assert await notes.delete(sorted(gone)) == len(model.keys() & gone)
                for id in gone:
                    model.pop(id, None)
            elif step == "tidy":
                await notes.tidy()
            elif step == "compact":
                await notes.store.compact()
            elif step == "export":
                file, kept, exported = await export(notes), dict(model), space
            elif step == "import" and file and exported == space:
                await restore(notes, file)
                model = dict(kept)
            elif step == "reembed":
                space = not space
                await notes.reembed(spaces[space])
            if step in ("reopen", "reembed"):  # after the latter the other one has to
                handles[1 - who].store.close()
                handles[1 - who] = await quick(tmp_path, embedder=spaces[space])
            looking = handles[chance.randrange(2)]
            if number % 20 == 0:
                await compare(looking, model)
            else:
                hits = await looking.search(chance.choice(WORDS), k=50)
                assert {hit.id: dict(hit.fields) for hit in hits} == {
                    id: {name: value for name, value in d["fields"].items() if value is not None}
                    for id, d in model.items()
                }, (number, step, counts)

    asyncio.run(main())
    assert len(counts) == 8 and min(counts.values()) > OPERATIONS // 400
