"""Collections in CPython: what is put is found by meaning and by fields, whatever was done before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from insitu.collection import collection as module
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.collection.store import Stored
from notes import NOTES, embedded, embedder, ids, of_notes, opened, run


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


# --- filters ---------------------------------------------------------------------------------------------------------


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


class Interrupted(FolderStore):
    """Somebody else writes once, between what a search finds and the texts that it reads."""

    between: Callable[[], Awaitable[Any]] | None = None

    async def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        if self.between:
            write, self.between = self.between, None
            await write()
        return await super().texts(numbers)


@pytest.mark.parametrize("query", [None, "the blue car"])
def test_an_answer_has_fields_and_documents_of_one_state(tmp_path: Path, query: str | None) -> None:
    async def main() -> None:
        other = await of_notes(tmp_path)
        store = Interrupted(tmp_path)
        notes = await Collection.open(embedder(), store)
        assert sorted(ids(await notes.search(query, where={"tag": "home"}))) == ["car", "cat"]
        moved = [NOTES[0] | {"fields": {"tag": "work"}}, {"id": "new", "text": "a house", "fields": {"tag": "home"}}]
        store.between = lambda: other.put(moved)
        found = await notes.search(query, where={"tag": "home"})
        assert sorted((hit.id, hit.fields["tag"]) for hit in found) == [("cat", "home"), ("new", "home")]

    run(main())
