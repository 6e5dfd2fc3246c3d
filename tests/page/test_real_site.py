"""A real site in the page: Python's documentation, some 500 pages, asked what its users ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from conftest import serving
from eval import python_docs as asked
from insitu.index.search import Index
from insitu.runtime.native import NativeRuntime
from page.conftest import OPEN, wait

QUESTIONS = 20


@pytest.mark.slow
def test_questions_to_pythons_documentation_give_the_passages_that_cpython_gives(
    page: Page, python_docs_index: Path, model_dir: Path
) -> None:
    runtime = NativeRuntime.open(model_dir, index_dir=python_docs_index)
    index = wait(Index.open(runtime, runtime.lock, (python_docs_index / "index.json").read_bytes()))
    questions = [question.text for question in asked.load()][:QUESTIONS]
    with serving(python_docs_index) as address:
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # a document of JSON names no icon
        page.goto(address + "index.json")  # any document of the origin will do
        page.set_default_timeout(240_000)
        page.evaluate(OPEN.replace("/insitu/insitu.js", "/insitu.js"), {})
        found = page.evaluate(
            "async (all) => { const hits = []; for (const q of all) hits.push(await insitu.search(q)); return hits; }",
            questions,
        )
        page.evaluate("insitu.close()")
    for question, hits in zip(questions, found, strict=True):
        wanted = {(hit.url, hit.text) for hit in wait(index.search(question))}
        same = wanted & {(hit["url"], hit["text"]) for hit in hits}
        assert len(hits) == 10 and len(same) >= 9, question
