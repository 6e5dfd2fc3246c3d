"""Cutting text: nothing lost, nothing too long, time in proportion to the text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_runtime import FakeRuntime
from insitu.text.chunk import CHARACTERS_PER_TOKEN, Chunk, chunk_page, embed_text
from insitu.text.page import Page, Section

TARGET = 24


async def count(texts: Sequence[str]) -> Sequence[int]:
    return (await FakeRuntime().tokenize(texts)).lengths


def cut(*sections: Section, target: int = TARGET) -> list[Chunk]:
    return asyncio.run(chunk_page(Page("a.html", "T", sections), count, target=target))


def weights(chunks: Sequence[Chunk]) -> list[int]:
    return list(asyncio.run(count([chunk.text for chunk in chunks])))


def squeezed(texts: Sequence[str]) -> str:
    return "".join("".join(texts).split())


letters = st.one_of(st.sampled_from("ab. \n。!\té日?\u3000"), st.characters(codec="utf-8"))
paragraphs = st.lists(st.text(letters, max_size=300), max_size=6).map("\n\n".join)
words = st.lists(st.text("abcdefg", min_size=1, max_size=12), min_size=1, max_size=300)


@settings(max_examples=200, deadline=None)
@given(paragraphs, st.integers(1, 40))
def test_the_chunks_joined_are_the_text(text: str, target: int) -> None:
    chunks = cut(Section("H", "h", text, 1), target=target)
    told = [chunk.text for chunk in chunks]
    if text.strip():
        assert squeezed(told) == squeezed([text])
        assert all(piece == piece.strip() and piece for piece in told)
        assert {(chunk.trail, chunk.anchor) for chunk in chunks} == {(("H",), "h")}


@settings(max_examples=100, deadline=None)
@given(words, st.sampled_from([" ", "\n", ". ", "\n\n"]))
def test_no_chunk_is_longer_than_the_target(words: list[str], gap: str) -> None:
    chunks = cut(Section("", "", gap.join(words), 0))
    assert max(weights(chunks)) <= TARGET


def test_chunks_of_one_section_have_about_the_same_size() -> None:
    text = " ".join(f"This is sentence {number}." for number in range(40))  # 40 sentences of 5 tokens
    sizes = weights(cut(Section("", "", text, 0), target=64))
    assert sizes == [50, 50, 50, 50]


def test_a_cut_falls_between_paragraphs_before_it_falls_between_sentences() -> None:
    first, second = "One two three four. " * 4, "Five six seven eight. " * 4  # 20 tokens each
    assert [chunk.text for chunk in cut(Section("", "", f"{first}\n\n{second}", 0))] == [first.strip(), second.strip()]


def test_code_stays_with_the_sentence_that_announces_it() -> None:
    before, lead, code = "One two three four. " * 2, "It is used so:", "call(it)\n" * 3  # 10, 5 and 12 tokens
    told = [chunk.text for chunk in cut(Section("", "", f"{before}\n\n{lead}\n\n{code}", 0))]
    assert told == [before.strip(), f"{lead}\n\n{code}".strip()]


@pytest.mark.parametrize(
    "sentence",
    ["これは文です。", "這是一個句子！", "यह एक वाक्य है।", "هل هذا سؤال؟ ", "Ist das ein Satz? ", "«C’est fini.» "],
)
def test_sentences_of_many_scripts_stay_whole(sentence: str) -> None:
    for chunk in cut(Section("", "", sentence * 60, 0)):
        assert chunk.text.endswith(sentence.strip())
        assert set(squeezed([chunk.text]).split(squeezed([sentence]))) == {""}


def test_headings_stand_in_the_trail_of_what_they_hold() -> None:
    chunks = cut(
        Section("Guide", "g", "a", 1),
        Section("Part", "p", "", 2),
        Section("Detail", "d", "b", 3),
        Section("Next", "n", "c", 2),
    )
    assert [(chunk.trail, chunk.anchor, chunk.text) for chunk in chunks] == [
        (("Guide",), "g", "a"),
        (("Guide", "Part", "Detail"), "d", "b"),
        (("Guide", "Next"), "n", "c"),
    ]


def test_an_entry_without_a_description_is_found_by_its_name() -> None:
    chunks = cut(Section("Guide", "g", "a", 1), Section("os.EX_OK", "e", "", 2), Section("Next", "n", "c", 2))
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [
        ("Guide", "a"),
        ("os.EX_OK", "os.EX_OK"),
        ("Next", "c"),
    ]


def test_what_is_embedded_has_title_and_headings_in_front() -> None:
    assert embed_text("Guide", Chunk(("Guide", "Part"), "p", "Text.")) == "Guide\nPart\nText."
    assert embed_text("", Chunk((), "", "Text.")) == "Text."


def test_endless_headings_leave_room_for_the_text() -> None:
    front = embed_text("t" * 10_000, Chunk(("a" * 10_000, "b" * 10_000, "c" * 10_000), "", "Text."))
    assert front.endswith("\nText.")
    assert len(front) < 400


MILLION = {
    "words": "word " * 200_000,
    "one word": "w" * 1_000_000,
    "sentences": "A short sentence. " * 55_556,
    "lines": "line\n" * 200_000,
    "chinese": "中文" * 500_000,
    "chinese sentences": "中文句子。" * 200_000,
    "marks": "." * 1_000_000,
    "spaces": "a" + " " * 999_998 + "b",
}


@pytest.mark.parametrize("kind", MILLION)
def test_a_million_characters_take_a_moment(kind: str) -> None:
    text = MILLION[kind]
    started = time.process_time()
    chunks = cut(Section("", "", text, 0), target=160)
    assert time.process_time() - started < 20
    assert squeezed([chunk.text for chunk in chunks]) == squeezed([text])
    assert max(weights(chunks)) <= 160
    assert max(len(chunk.text) for chunk in chunks) <= 160 * CHARACTERS_PER_TOKEN


def test_the_work_grows_with_the_text_and_not_faster() -> None:
    def characters_counted(text: str) -> int:
        runtime = FakeRuntime()

        async def counting(texts: Sequence[str]) -> Sequence[int]:
            return (await runtime.tokenize(texts)).lengths

        asyncio.run(chunk_page(Page("a", "T", (Section("", "", text, 0),)), counting, target=TARGET))
        return runtime.tokenized

    for text in ("word " * 1000, "w" * 5000, "A sentence of words. " * 250):
        assert characters_counted(text * 4) <= 4 * characters_counted(text) <= 4 * 5 * len(text)
