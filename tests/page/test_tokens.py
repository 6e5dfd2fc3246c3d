"""The page's tokenizer gives the ids of `tokenizers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page

from page.texts import SCRIPTS

ENCODE = """(texts) => texts.map((text) => { const ids = []; tokenizer.encode(text, ids); return ids; })"""


@pytest.fixture(scope="module")
def tokenizer(opened: Page, model_url: str) -> Page:
    opened.evaluate(
        """async (lock) => {
            const { Tokenizer } = await import('/parts.js');
            const url = new URL('tokenizer.json', new URL(lock, location));
            window.tokenizer = new Tokenizer(await (await fetch(url)).text());
        }""",
        model_url,
    )
    return opened


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Any:
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    return reference


def ids(reference: Any, texts: list[str]) -> list[list[int]]:
    return [found.ids for found in reference.encode_batch(texts, add_special_tokens=False)]


def test_ids_are_those_of_the_reference_on_many_scripts(tokenizer: Page, reference: Any) -> None:
    assert tokenizer.evaluate(ENCODE, SCRIPTS) == ids(reference, SCRIPTS)


@pytest.mark.slow
def test_every_character_is_taken_for_what_the_reference_takes_it(tokenizer: Page, reference: Any) -> None:
    # All that are assigned or private, and a sample of planes that are empty.
    codes = [
        c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and (c < 0x20000 or c % 64 == 0 or c >= 0x10FF00)
    ]
    texts = [f"ab{chr(code)}cd" for code in codes]
    for start in range(0, len(texts), 20_000):
        part = texts[start : start + 20_000]
        found = json.loads(tokenizer.evaluate(f"(texts) => JSON.stringify(({ENCODE})(texts))", part))
        wrong = [hex(ord(text[2])) for text, a, b in zip(part, found, ids(reference, part), strict=True) if a != b]
        assert wrong == []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40), min_size=1, max_size=20))
def test_ids_are_those_of_the_reference_on_any_text(tokenizer: Page, reference: Any, texts: list[str]) -> None:
    assert tokenizer.evaluate(ENCODE, texts) == ids(reference, texts)
