"""Words beside the vectors in CPython: terms, fusion, and a word index that follows what is written."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu import errors
from insitu.collection import words as module
from insitu.collection.folder import FILE, FolderStore
from insitu.collection.folder_words import NAME, FolderWords
from insitu.collection.fuse import fuse
from insitu.text.words import LONGEST, MOST_TERMS, query_terms, terms
from notes import NOTES, ids, of_notes, opened, run

# --- terms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Cat, the CAT!", "the cat the cat"),
        ("itertools.groupby(x)", "itertools groupby itertools_groupby x"),
        ("ERR_NAME_NOT_RESOLVED", "err name not resolved err_name_not_resolved"),
        ("__init__ -x --- end.", "init x end"),
        ("error E0502: v1.2", "error e0502 v1 2 v1_2"),
        ("Café CAFE\u0301 ÅNGSTRÖM Straße ﬁne", "cafe cafe angstrom strasse fine"),
        ("ёлка", "елка"),
        ("ＡＢＣ１", "abc1"),
        ("don't", "don t"),
        ("हिन्दी में", "हिन्दी में"),
        ("كِتَابٌ كتـاب", "كتاب كتاب"),
        ("我用numpy数组", "我用 numpy 数组"),
        ("猫", "猫"),
        ("東京都。", "東京 京都"),
        ("がぎ か\u3099", "がぎ が"),
        ("학교에서", "학교 교에 에서"),
        ("ก\u0e33ไร ก\u0e4d\u0e32", "ก\u0e4d \u0e4d\u0e32 \u0e32ไ ไร ก\u0e4d \u0e4d\u0e32"),
        ("?! … \ud800 \0", ""),
    ],
)
def test_terms(text: str, wanted: str) -> None:
    assert terms(text) == wanted.split()


def test_terms_have_an_end() -> None:
    assert terms("x" * 1000) == ["x" * LONGEST]
    assert len(query_terms(" ".join(map(str, range(10_000))))) == MOST_TERMS
    assert query_terms("the cat the cat") == ["the", "cat"]


@given(st.text(max_size=60))
def test_terms_are_found_as_they_were_added(text: str) -> None:
    words = FolderWords(sqlite3.connect(":memory:", isolation_level=None), nullcontext)
    found = terms(text)
    run(words.add([(7, ["other words", " ".join(found)])]))
    for term in query_terms(text):
        assert (7, 1) in run(words.find([term], 5, None)), term
    assert query_terms(text) == list(dict.fromkeys(terms(" ".join(text.split()))))[:MOST_TERMS]


# --- fusion ------------------------------------------------------------------------------------------------------

rankings = st.lists(st.integers(0, 12), unique=True, max_size=10)


@given(rankings, rankings, st.floats(0, 1))
def test_fusion_is_the_formula(meaning: list[int], words: list[int], weight: float) -> None:
    def worth(key: int) -> float:
        by_meaning = (1 - weight) / (5 + meaning.index(key) + 1) if key in meaning else 0.0
        return by_meaning + (weight / (5 + words.index(key) + 1) if key in words else 0.0)

    keys = [*meaning, *(key for key in words if key not in meaning)]
    wanted = sorted((key for key in keys if worth(key) > 0), key=lambda key: -worth(key))
    if weight == 1:  # then no place by meaning decides between equals, and there are none
        wanted = words
    assert [key for key in fuse(meaning, words, weight) if worth(key) > 0] == wanted
    assert fuse(meaning, words, 0) == meaning


# --- collections -------------------------------------------------------------------------------------------------

ODD: list[dict[str, Any]] = [
    {"id": "code", "text": "raised by itertools.groupby: E0502", "fields": {"tag": "work"}},
    {"id": "zh", "text": "我把车停在市政厅后面", "fields": {"tag": "home"}},
]


def test_words_find_what_meaning_does_not_look_at(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        await notes.put(ODD)
        for query, wanted in [("E0502", "code"), ("groupby", "code"), ("itertools.groupby?", "code"), ("市政厅", "zh")]:
            hits = await notes.search(query, words=1)
            assert ids(hits) == [wanted], query
            everywhere = {hit.id: hit.score for hit in await notes.search(query)}
            assert hits[0].score == pytest.approx(everywhere[wanted], abs=1e-6)  # a cosine, whatever the order
            assert ids(await notes.search(query, words=0.9))[0] == wanted
        assert await notes.search("E0502", words=0) == await notes.search("E0502")
        assert len(await notes.search("E0502", words=0.5)) == 6  # who lacks the word is found by meaning

    run(main())


def test_signs_alone_are_asked_by_meaning(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        assert await notes.search("?!", words=1) == await notes.search("?!") != []
        assert ids(await notes.search(where={"tag": "home"}, words=1)) == ["cat", "car"]

    run(main())


def test_filters_restrict_words_too(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        assert sorted(ids(await notes.search("the cat car", words=1))) == ["car", "cat", "tax"]
        assert ids(await notes.search("the cat car", words=1, where={"tag": "work"})) == ["tax"]
        assert ids(await notes.search("the cat car", words=0.5, where={"tag": None})) == ["plain"]
        assert await notes.search("the cat car", words=1, where={"tag": "none such"}) == []

    run(main())


def test_what_nearly_all_passages_hold_is_asked_only_where_nothing_rarer_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        await notes.put([{"id": str(i), "text": f"common number {i}"} for i in range(20)])
        assert len(await notes.search("common 7", k=50, words=1)) == 20
        monkeypatch.setattr(module, "COMMON_LEAST", 3)
        assert ids(await notes.search("common 7", k=50, words=1)) == ["7"]
        assert len(await notes.search("common xyzzy", k=50, words=1)) == 20

    run(main())


@pytest.mark.parametrize("rescore", [False, True])
def test_the_passage_that_matched_is_shown_and_a_document_once(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await opened(tmp_path, rescore=rescore)
        sentences = [f"Sentence {i} speaks of matter {i} and of nothing else at all." for i in range(400)]
        sentences[250] = "The code is E0502."
        await notes.put([{"id": "long", "title": "Book", "text": " ".join(sentences)}, *NOTES])
        (hit,) = await notes.search("E0502", words=1)
        assert hit.id == "long" and "E0502" in hit.text and len(hit.text) < 5000
        assert -1 <= (hit.score or 2) <= 1
        assert ids(await notes.search("book", words=1)) == ["long"]  # the title counts for each passage
        many = await notes.search("sentence speaks of matter", words=0.5)
        assert len(set(ids(many))) == len(many) == 5

    run(main())


def test_deleted_and_replaced_words_are_gone_here_and_in_another_opening(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await of_notes(tmp_path), await opened(tmp_path)
        assert ids(await two.search("hall", words=1)) == ["car"]
        await one.put([{"id": "car", "text": "the red bicycle"}])
        await one.delete(["tax"])
        for notes in (two, one):
            assert ids(await notes.search("hall", words=1)) == []
            assert ids(await notes.search("income tax", words=1)) == []
            assert ids(await notes.search("bicycle", words=1)) == ["car"]
        await two.store.compact()
        await two.put([{"id": "new", "text": "one more bicycle"}])
        assert sorted(ids(await one.search("bicycle", words=1))) == ["car", "new"]

    run(main())


def test_what_is_gone_does_not_crowd_out_what_is_here(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        await notes.put([{"id": str(i), "text": "a crowd"} for i in range(120)])
        assert len(await notes.search("crowd", words=1)) == 10
        await notes.delete([str(i) for i in range(119)])
        assert ids(await notes.search("crowd", words=1)) == ["119"]

    run(main())


def test_words_are_found_after_the_vectors_were_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        notes, other = await of_notes(tmp_path), await opened(tmp_path)
        for one in (notes, other):
            assert ids(await one.search("hall", words=1)) == ["car"]
        await notes.reembed(dim=4)
        assert ids(await notes.search("hall", words=1)) == ["car"]
        await notes.put(ODD)
        assert ids(await notes.search("groupby", words=1)) == ["code"]
        again = await opened(tmp_path, dim=4)
        assert sorted(ids(await again.search("hall groupby", words=1))) == ["car", "code"]

    run(main())


def test_an_index_that_is_missing_or_of_another_release_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        assert ids(await notes.search("bicycle hall", words=1)) == ["car"]
        notes.store.close()
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute(f"DROP TABLE {NAME}")
        notes = await opened(tmp_path)
        assert ids(await notes.search("bicycle hall", words=1)) == ["car"]

    run(main())


def test_the_index_is_kept_and_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        await notes.search("car", words=1)
        notes.store.close()
        read: list[int] = []
        texts = FolderStore.texts

        async def watched(self: FolderStore, numbers: Any) -> Any:
            read.extend(numbers)
            return await texts(self, numbers)

        monkeypatch.setattr(FolderStore, "texts", watched)
        notes = await opened(tmp_path)
        assert await notes.search("none such", words=1) == []
        assert read == []
        await notes.put(ODD[:1])
        assert await notes.search("none such", words=1) == []
        assert read == [5]

    run(main())


def test_a_search_that_is_cancelled_while_the_index_is_made_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    added = asyncio.Event()
    add = FolderWords.add

    async def watched(self: FolderWords, documents: Any) -> None:
        await add(self, documents)
        added.set()

    monkeypatch.setattr(FolderWords, "add", watched)

    async def main() -> None:
        notes = await of_notes(tmp_path)
        search = asyncio.create_task(notes.search("the car", words=1))
        await added.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        with sqlite3.connect(tmp_path / FILE) as db:
            assert 0 < db.execute(f"SELECT count(*) FROM {NAME}").fetchone()[0] < 4
        assert sorted(ids(await notes.search("the car", words=1))) == ["car", "cat", "tax"]

    run(main())


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), float("inf"), "0.3", True, None, [0.3]])
def test_a_weight_that_is_none_is_named_and_changes_nothing(tmp_path: Path, weight: Any) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        revision = (await notes.stats())["revision"]
        with pytest.raises(errors.InvalidArgument, match="words"):
            await notes.search("car", words=weight)
        with pytest.raises(errors.InvalidArgument, match="words"):
            await notes.search(where={}, words=weight)
        assert (await notes.stats())["revision"] == revision

    run(main())
