"""The page's tokenizers give the ids of `tokenizers`."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from conftest import ROOT
from insitu.model.vocabulary import pack_vocabulary
from insitu.text.clean import well_formed
from page.many_texts import many_texts
from page.texts import SCRIPTS
from small_gemma import merges, small_gemma

# Strings of JSON: a text of a million characters takes Playwright's own serialiser minutes.
ENCODE = """([name, texts, limit]) => JSON.stringify(JSON.parse(texts).map((text) => {
    const ids = [];
    window[name].encode(text, ids, limit ?? undefined);
    return ids;
}))"""
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40)
ANY_TEXTS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def bert(opened: Page, model_url: str) -> Page:
    return open_tokenizer(opened, "bert", model_url.replace("model.lock.json", "vocabulary.bin"))


@pytest.fixture(scope="module")
def bert_reference(model_dir: Path) -> Any:
    return reference(model_dir / "tokenizer.json")


@pytest.fixture(scope="module")
def gemma(opened: Page, site: Path, gemma_vocabulary: bytes) -> Page:
    (site / "gemma.bin").write_bytes(gemma_vocabulary)
    return open_tokenizer(opened, "gemma", "/gemma.bin")


@pytest.fixture(scope="module")
def gemma_reference(gemma_exported: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("gemma") / "tokenizer.json"
    path.write_text(json.dumps(gemma_exported), "utf-8")
    return reference(path)


@pytest.fixture(scope="module")
def small(opened: Page, site: Path) -> Page:
    (site / "small.bin").write_bytes(pack_vocabulary(small_gemma()))
    return open_tokenizer(opened, "small", "/small.bin")


@pytest.fixture(scope="module")
def small_reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("small") / "tokenizer.json"
    path.write_text(json.dumps(small_gemma()), "utf-8")
    return reference(path)


def open_tokenizer(page: Page, name: str, path: str) -> Page:
    page.evaluate(
        """async ([name, path]) => {
            const { readTokenizer } = await import('/parts.js');
            const file = fetch(path).then(async (answer) => new Uint8Array(await answer.arrayBuffer()));
            window[name] = await readTokenizer(file, (file) => '/insitu/' + file);
        }""",
        [name, path],
    )
    return page


def reference(path: Path) -> Any:
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(path))
    reference.no_truncation()
    reference.no_padding()
    return reference


def ids(reference: Any, texts: Sequence[str]) -> list[list[int]]:
    return [found.ids for found in reference.encode_batch(list(texts), add_special_tokens=False)]


def page_ids(page: Page, name: str, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
    found: list[list[int]] = json.loads(page.evaluate(ENCODE, [name, json.dumps(list(texts)), limit]))
    return found


def differing(page: Page, name: str, reference: Any, texts: Sequence[str]) -> list[str]:
    """The texts whose ids differ, shortest first."""
    wrong = []
    for start in range(0, len(texts), 2_000):
        part = [well_formed(text) for text in texts[start : start + 2_000]]
        pairs = zip(part, page_ids(page, name, part), ids(reference, part), strict=True)
        wrong += [text for text, found, right in pairs if found != right]
    return sorted(wrong, key=len)[:5]


def test_wordpiece_ids_on_many_scripts(bert: Page, bert_reference: Any) -> None:
    assert differing(bert, "bert", bert_reference, SCRIPTS) == []


@pytest.mark.slow
def test_wordpiece_takes_every_character_for_what_the_reference_takes_it(bert: Page, bert_reference: Any) -> None:
    texts = [f"ab{character}cd" for character in every_character()]
    assert differing(bert, "bert", bert_reference, texts) == []


@ANY_TEXTS
@given(st.lists(ANY_TEXT, min_size=1, max_size=20))
def test_wordpiece_ids_on_any_text(bert: Page, bert_reference: Any, texts: list[str]) -> None:
    assert page_ids(bert, "bert", texts) == ids(bert_reference, texts)


@pytest.mark.slow
def test_wordpiece_ids_on_20_000_texts(bert: Page, bert_reference: Any) -> None:
    assert differing(bert, "bert", bert_reference, kinds_of_text(bert_reference)) == []


def test_gemma_ids_on_20_000_texts(gemma: Page, gemma_reference: Any) -> None:
    assert differing(gemma, "gemma", gemma_reference, kinds_of_text(gemma_reference)) == []


def test_gemma_ids_of_the_golden_cases(gemma: Page) -> None:
    """Those of sentence-transformers: special tokens included, texts of up to 1,606 tokens."""
    folder = ROOT / "models/embeddinggemma-300m"
    cases = [
        case
        for name in ("golden", "golden-more")
        for case in json.loads((folder / f"{name}.json").read_text())["cases"]
    ]
    assert len(cases) == 28
    found = page_ids(gemma, "gemma", [case["text"] for case in cases])
    assert [[2, *ids, 1] for ids in found] == [case["token_ids"] for case in cases]


@pytest.mark.slow
def test_gemma_ids_of_every_character(gemma: Page, gemma_reference: Any) -> None:
    texts = [f"ab{character}cd {character}{character}" for character in every_character()]
    assert differing(gemma, "gemma", gemma_reference, texts) == []


@pytest.mark.slow
def test_gemma_ids_of_every_token_as_text(gemma: Page, gemma_reference: Any) -> None:
    texts = list(gemma_reference.get_vocab())
    assert differing(gemma, "gemma", gemma_reference, texts) == []


@ANY_TEXTS
@given(st.lists(ANY_TEXT, min_size=1, max_size=20))
def test_gemma_ids_on_any_text(gemma: Page, gemma_reference: Any, texts: list[str]) -> None:
    assert page_ids(gemma, "gemma", texts) == ids(gemma_reference, texts)


def test_tokens_whose_texts_outgrow_the_room_for_them(opened: Page, site: Path, tmp_path: Path) -> None:
    data = small_gemma()
    vocab = data["model"]["vocab"]
    runs = [letter * count for letter in "ab" for count in range(1, 255)]
    for run in runs:
        vocab.setdefault(run, len(vocab))
    data["model"]["merges"] = merges(vocab)
    (site / "runs.bin").write_bytes(pack_vocabulary(data))
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    page = open_tokenizer(opened, "runs", "/runs.bin")
    assert differing(page, "runs", reference(tmp_path / "tokenizer.json"), runs) == []


LETTERS = ("aabbbcx é😀\nz▁", "ab", "aaacx", "aaaab", " b")


@ANY_TEXTS
@given(st.lists(st.one_of([st.text(letters, max_size=150) for letters in LETTERS]), min_size=20, max_size=60))
def test_merges_compete_as_they_do_in_the_reference(small: Page, small_reference: Any, texts: list[str]) -> None:
    """Few letters, so that most neighbours could merge; up to three times the length from which on a heap is used."""
    assert page_ids(small, "small", texts) == ids(small_reference, texts)


@ANY_TEXTS
@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 5), st.integers(0, 50))), max_size=200))
def test_the_heap_gives_the_least_key_and_then_the_least_place(
    opened: Page, steps: list[tuple[int, int] | None]
) -> None:
    """None takes one out."""
    heap: list[tuple[int, int]] = []
    right = []
    for step in steps:
        if step is not None:
            heapq.heappush(heap, step)
        elif heap:
            right.append(list(heapq.heappop(heap)))
    found = opened.evaluate(
        """async (steps) => {
            const { Heap } = await import('/parts.js');
            const heap = new Heap(1);
            const out = [];
            for (const step of steps) {
                if (step) heap.push(step[0], step[1]);
                else if (heap.pop()) out.push([heap.key, heap.place]);
            }
            return out;
        }""",
        [step and list(step) for step in steps],
    )
    assert found == right


LONG = {
    "one letter": "a" * 1_000_000,
    "two letters": "ab" * 500_000,
    "blanks": " " * 1_000_000,
    "no token": "\U000e0041" * 250_000,
    "ideographs": "漢字仮名交じり文" * 125_000,
    "letters": "".join(chr(97 + (i * i * 7919 + i // 3) % 26) for i in range(1_000_000)),
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("name", ["bert", "gemma"])
def test_a_word_of_a_million_characters_ends_soon(request: pytest.FixtureRequest, name: str, kind: str) -> None:
    page, right = request.getfixturevalue(name), request.getfixturevalue(f"{name}_reference")
    text = LONG[kind]
    started = time.monotonic()
    found = page_ids(page, name, [text])
    assert time.monotonic() - started < 20  # seconds here; an algorithm in squares takes hours
    assert found == ids(right, [text])


@pytest.mark.parametrize("name", ["bert", "gemma"])
def test_what_is_left_after_a_limit_changes_nothing_before_it(request: pytest.FixtureRequest, name: str) -> None:
    page, right = request.getfixturevalue(name), request.getfixturevalue(f"{name}_reference")
    text = " ".join(SCRIPTS)
    whole = ids(right, [text])[0]
    for limit in (1, 2, 10, 100):
        found = page_ids(page, name, [text], limit)[0]
        assert limit <= len(found) < len(whole)
        assert found == whole[: len(found)]


def every_character() -> list[str]:
    """All that are assigned or private, and a sample of planes that are empty."""
    codes = (c for c in range(1, 0x110000) if c < 0x20000 or c % 64 == 0 or c >= 0x10FF00)
    return [chr(code) for code in codes if not 0xD800 <= code < 0xE000]


def kinds_of_text(reference: Any) -> list[str]:
    added = [token.content for token in reference.get_added_tokens_decoder().values()]
    return many_texts(20_000, sorted(reference.get_vocab()), added)
