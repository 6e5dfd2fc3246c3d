"""Collections in CPython: what is put is found, whatever was done before, and bad input changes nothing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_lock
from insitu import errors
from insitu.collection import collection as module
from insitu.collection import folder as folder_module
from insitu.collection.collection import Collection, Found
from insitu.collection.folder import FILE, FolderStore
from insitu.embedder import Embedder

T = TypeVar("T")
FIELDS = {"tag": "keyword", "date": "number"}
NOTES: list[dict[str, Any]] = [
    {"id": "car", "text": "parked the blue car behind the town hall", "fields": {"tag": "home", "date": 20260105}},
    {
        "id": "cat",
        "text": "the cat wants dry food and a clean box",
        "title": "Cat",
        "fields": {"tag": "home", "date": 3},
    },
    {"id": "tax", "text": "income tax is due at the end of may", "fields": {"tag": "work", "date": 20250531}},
    {"id": "plain", "text": "nothing is known of this one"},
]


def embedder(**more: Any) -> Embedder:
    runtime = FakeRuntime(lock=fake_lock(**more))
    return Embedder(runtime, runtime.lock)


async def opened(folder: Path, **more: Any) -> Collection:
    more.setdefault("fields", FIELDS)
    return await Collection.open(more.pop("embedder", None) or embedder(), FolderStore(folder), **more)


async def of_notes(folder: Path, **more: Any) -> Collection:
    notes = await opened(folder, **more)
    await notes.put(NOTES)
    return notes


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def ids(hits: list[Found]) -> list[str]:
    return [hit.id for hit in hits]


def embedded(notes: Collection) -> int:
    runtime = notes.embedder.runtime
    assert isinstance(runtime, FakeRuntime)
    return len(runtime.embedded)


# --- what is put is found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescore", [False, True])
def test_what_was_put_is_found_also_after_opening_again(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path, rescore=rescore)
        first = await notes.search("where is the blue car parked")
        assert (first[0].id, first[0].text, first[0].fields) == ("car", NOTES[0]["text"], NOTES[0]["fields"])
        assert len(first) == len(NOTES)
        notes.store.close()
        again = await opened(tmp_path, rescore=rescore)
        assert await again.search("where is the blue car parked") == first

    run(main())


def test_rescoring_orders_by_full_size(tmp_path: Path) -> None:
    async def main() -> None:
        whole = embedder()
        notes = await of_notes(tmp_path, dim=4, rescore=True)
        hits = await notes.search("clean food for the cat")
        query = (await whole.embed(["clean food for the cat"], task="query")).block.vectors()
        for hit in hits:
            title = next(note.get("title", "") for note in NOTES if note["id"] == hit.id)
            made = await whole.embed([f"{title}\n{hit.text}" if title else hit.text])
            a, b = memoryview(query).cast("f"), memoryview(made.block.vectors()).cast("f")
            assert hit.score == pytest.approx(sum(x * y for x, y in zip(a, b, strict=True)), abs=0.02)
        assert [hit.score for hit in hits] == sorted((hit.score or 0 for hit in hits), reverse=True)

    run(main())


def test_a_document_gives_one_hit_with_the_passage_that_matched(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        sentences = [f"Sentence {i} speaks of matter {i} and of nothing else at all." for i in range(400)]
        sentences[250] = "Penguins " * 39 + "walk."
        long = " ".join(sentences)
        await notes.put([{"id": "long", "text": long}, *NOTES])
        hits = await notes.search("penguins " * 9, k=3)
        assert ids(hits)[0] == "long" and len(set(ids(hits))) == 3
        assert "Penguins" in hits[0].text and len(hits[0].text) < len(long) / 5
        assert hits[0].text in long

    run(main())


def test_a_text_that_did_not_change_is_not_embedded_again(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        before = embedded(notes)
        changed = [{**NOTES[0], "fields": {"tag": "street"}}, *NOTES[1:3], {**NOTES[3], "text": "now it is known"}]
        done = await notes.put(changed)
        assert (done.embedded, done.unchanged, embedded(notes) - before) == (1, 3, 1)
        assert ids(await notes.search(where={"tag": "street"})) == ["car"]
        assert (await notes.search("known", k=1))[0].text == "now it is known"
        assert (await notes.stats())["documents"] == 4

    run(main())


def test_a_put_that_ended_half_way_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_DOCUMENTS", 2)

    async def main() -> None:
        many = [{"id": str(i), "text": f"text number {i}"} for i in range(7)]
        notes = await opened(tmp_path)

        def stop(done: int, total: int) -> None:
            if done == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await notes.put(many, on_progress=stop)
        notes.store.close()
        notes = await opened(tmp_path)
        assert (await notes.stats())["documents"] == 4
        seen: list[tuple[int, int]] = []
        done = await notes.put(many, on_progress=lambda *step: seen.append(step))
        assert (done.embedded, done.unchanged, embedded(notes)) == (3, 4, 3)
        assert seen[-1] == (7, 7) and seen == sorted(seen)

    run(main())


def test_two_openings_see_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await opened(tmp_path), await opened(tmp_path)
        await one.put(NOTES[:2])
        assert ids(await two.search("car parked", k=1)) == ["car"]
        assert ids(await two.search(where={"tag": "home"})) == ["cat", "car"]
        await two.delete(["car"])
        await two.put(NOTES[2:])
        assert sorted(ids(await one.search("car parked"))) == ["cat", "plain", "tax"]
        assert ids(await one.search(where={"date": {"gt": 3}})) == ["tax"]

    run(main())


def test_ids_and_texts_are_any_strings(tmp_path: Path) -> None:
    async def main() -> None:
        names = ["", " ", "a\0b", "\ud800", "é", "e\u0301", "🙂", "__proto__", "' OR 1=1", "x" * 5000]
        notes = await opened(tmp_path)
        await notes.put([{"id": name, "text": f"text {i} \udc00 \0"} for i, name in enumerate(names)])
        assert sorted(ids(await notes.search("text", k=50))) == sorted(names)
        assert await notes.delete(names[:9]) == 9
        assert ids(await notes.search("text", k=50)) == [names[9]]

    run(main())


# --- filters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"tag": "home"}, "car cat"),
        ({"tag": "none such"}, ""),
        ({"tag": None}, "plain"),
        ({"tag": {"ne": "home"}}, "plain tax"),
        ({"tag": {"in": ["work", None]}}, "plain tax"),
        ({"date": {"gte": 3, "lt": 20260105}}, "cat tax"),
        ({"date": {"lte": 20260105}}, "car cat tax"),
        ({"date": {"gt": 3}, "tag": "home"}, "car"),
        ({"or": [{"tag": "work"}, {"date": 3}]}, "cat tax"),
        ({"and": [{"tag": "home"}, {"not": {"date": 3}}]}, "car"),
        ({"not": {"tag": "home"}}, "plain tax"),
        ({"or": []}, ""),
        ({}, "car cat plain tax"),
    ],
)
def test_filters(tmp_path: Path, where: Any, wanted: str) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        assert " ".join(sorted(ids(await notes.search(where=where)))) == wanted
        assert " ".join(sorted(ids(await notes.search("the car", where=where)))) == wanted

    run(main())


def test_a_list_by_field_begins_with_what_was_put_last(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        await notes.put([{**NOTES[0], "text": "another text"}])
        hits = await notes.search(where={}, k=3)
        assert ids(hits) == ["car", "plain", "tax"]
        assert hits[0].score is None and hits[0].text == "another text"

    run(main())


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda c: c.put([*NOTES[:1], NOTES[0]]), errors.InvalidDocument),
        (lambda c: c.put([{"id": 7, "text": "a"}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": ""}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": None}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "title": 1}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "tags": []}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"tag": 1}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": "today"}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": True}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": float("nan")}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": 2**60}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"other": 1}}]), errors.InvalidDocument),
        (lambda c: c.put("text"), errors.InvalidArgument),
        (lambda c: c.put([NOTES[0], "text"]), errors.InvalidDocument),
        (lambda c: c.delete("car"), errors.InvalidArgument),
        (lambda c: c.delete(["car", 1]), errors.InvalidArgument),
        (lambda c: c.search("a", k=0), errors.InvalidArgument),
        (lambda c: c.search("a", k=1_000_000), errors.InvalidArgument),
        (lambda c: c.search("a", k=True), errors.InvalidArgument),
        (lambda c: c.search(" "), errors.EmptyQuery),
        (lambda c: c.search(), errors.InvalidArgument),
        (lambda c: c.search(7), errors.InvalidArgument),
        (lambda c: c.search("a", where={"tag": {"like": "h"}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"other": 1}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": 1}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": {"gt": None}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": {"in": "home"}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"or": {}}), errors.InvalidFilter),
        (lambda c: c.search("a", where="tag"), errors.InvalidFilter),
    ],
)
def test_bad_input_is_a_named_error_and_changes_nothing(tmp_path: Path, call: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        before = await notes.search(where={}, k=50)
        revision = (await notes.stats())["revision"]
        with pytest.raises(kind) as raised:
            await call(notes)
        assert type(raised.value) is kind
        assert await notes.search(where={}, k=50) == before
        assert (await notes.stats())["revision"] == revision

    run(main())


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"fields": {"tag": "number"}}, errors.InvalidArgument),
        ({"fields": {"tag": "text"}}, errors.InvalidArgument),
        ({"fields": {"or": "keyword"}}, errors.InvalidArgument),
        ({"fields": ["tag"]}, errors.InvalidArgument),
        ({"dim": 8}, errors.InvalidArgument),
        ({"rescore": 100}, errors.InvalidArgument),
        ({"embedder": embedder(name="other")}, errors.SpaceMismatch),
    ],
)
def test_a_collection_is_not_opened_as_another(tmp_path: Path, options: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        await of_notes(tmp_path)
        with pytest.raises(kind):
            await opened(tmp_path, **options)
        assert len(await (await opened(tmp_path)).search(where={})) == 4

    run(main())


def test_a_field_may_be_added_later(tmp_path: Path) -> None:
    async def main() -> None:
        await of_notes(tmp_path)
        notes = await opened(tmp_path, fields={"stars": "number"})
        await notes.put([{"id": "new", "text": "a new one", "fields": {"stars": 3, "tag": "home"}}])
        assert ids(await notes.search(where={"stars": {"gte": 1}})) == ["new"]
        assert ids(await notes.search(where={"tag": "home"})) == ["new", "cat", "car"]

    run(main())


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    run(of_notes(tmp_path))
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(errors.CollectionVersion, match="99"):
        run(opened(tmp_path))


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_damaged_segment_is_named_and_the_rest_answers(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        for note in NOTES:
            await notes.put([note])
        notes.store.close()
        with sqlite3.connect(tmp_path / FILE) as db:
            data = bytearray(db.execute("SELECT data FROM segments WHERE first = 1").fetchone()[0])
            data[3] ^= 1
            db.execute("UPDATE segments SET data = ? WHERE first = 1", (bytes(data),))
        notes = await opened(tmp_path)
        assert sorted(ids(await notes.search("cat"))) == ["car", "plain", "tax"]
        stats = await notes.stats()
        assert (stats["damaged"], stats["missing"], stats["documents"]) == ([1], 1, 4)
        done = await notes.put(NOTES)
        assert (done.embedded, done.unchanged) == (1, 3)
        assert ids(await notes.search("cat food", k=1)) == ["cat"]
        assert (await notes.stats())["missing"] == 0
        await notes.store.compact()
        assert ids(await notes.search("cat food", k=1)) == ["cat"]
        assert (await notes.stats())["damaged"] == []

    run(main())


@pytest.mark.parametrize("rescore", [False, True])
def test_a_lost_text_does_not_keep_the_others_from_answering(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path, rescore=rescore)
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("DELETE FROM texts WHERE id = ?", ('"cat"',))
        assert sorted(ids(await notes.search("cat"))) == ["car", "plain", "tax"]
        assert sorted(ids(await notes.search(where={}))) == ["car", "plain", "tax"]

    run(main())


def test_searches_and_puts_at_once_answer_from_one_state(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)

        async def write() -> None:
            for i in range(30):
                await notes.put([{**note, "text": f"{note['text']} {i}"} for note in NOTES])
                await notes.store.compact()
                await asyncio.sleep(0)

        async def read() -> None:
            for _ in range(30):
                assert sorted(ids(await notes.search("car"))) == ["car", "cat", "plain", "tax"]
                assert sorted(ids(await notes.search("car", where={"tag": "home"}))) == ["car", "cat"]
                assert sorted(ids(await notes.search("car", words=0.5))) == ["car", "cat", "plain", "tax"]
                await asyncio.sleep(0)

        await asyncio.gather(write(), read(), read())

    run(main())


def test_a_put_that_cannot_fit_is_refused_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        before = embedded(notes)
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(errors.DiskFull):
            await notes.put([{"id": "large", "text": "many words " * 50}])
        assert embedded(notes) == before

    run(main())


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        store = notes.store
        assert isinstance(store, FolderStore)
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(errors.DiskFull):
            await notes.put([{"id": "large", "text": "many words " * 5000}])
        assert sorted(ids(await notes.search("car"))) == ["car", "cat", "plain", "tax"]
        store._db.execute("PRAGMA max_page_count = 1000000")
        await notes.put([{"id": "large", "text": "many words " * 5000}])
        assert len(await notes.search("car")) == 5

    run(main())


# --- against a dictionary ----------------------------------------------------------------------------------------

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
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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

    old = module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, folder_module.SEGMENT_ROWS
    module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, folder_module.SEGMENT_ROWS = 3, 4, 5
    try:
        with TemporaryDirectory() as folder:
            asyncio.run(main(Path(folder)))
    finally:
        module.TAIL_SEGMENTS, module.COMMIT_DOCUMENTS, folder_module.SEGMENT_ROWS = old


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
