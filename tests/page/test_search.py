"""`search()` in the page, and the search page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from insitu.index.search import Index
from insitu.runtime.native import NativeRuntime
from page.conftest import Serve, Visited, caught, opened_on, wait
from page.texts import QUESTIONS


@pytest.fixture(scope="module")
def native_index(site: Path, model_dir: Path) -> Any:
    runtime = NativeRuntime.open(model_dir, index_dir=site / "insitu", threads=1)
    return wait(Index.open(runtime, runtime.lock, (site / "insitu/index.json").read_bytes()))


@pytest.mark.parametrize("question", QUESTIONS)
def test_hits_are_those_of_the_native_runtime(opened: Page, native_index: Any, question: str) -> None:
    found = opened.evaluate("(question) => insitu.search(question)", question)
    wanted = [hit.as_dict() for hit in wait(native_index.search(question))]
    assert found[0]["url"].partition("#")[0] == QUESTIONS[question]
    assert set(found[0]) == {"url", "title", "heading", "text", "score"}
    assert len({hit["url"] for hit in found} & {hit["url"] for hit in wanted}) >= 9
    scores = {hit["url"]: hit["score"] for hit in wanted}
    assert all(abs(hit["score"] - scores[hit["url"]]) < 0.01 for hit in found if hit["url"] in scores)


def test_k_says_how_many(opened: Page) -> None:
    assert opened.evaluate("async () => (await insitu.search('cats', { k: 3 })).length") == 3


def test_questions_asked_at_once_each_get_their_answer(opened: Page) -> None:
    found = opened.evaluate(
        "async (all) => (await Promise.all(all.map((q) => insitu.search(q, { k: 1 })))).map(([hit]) => hit.url)",
        list(QUESTIONS),
    )
    assert [url.partition("#")[0] for url in found] == list(QUESTIONS.values())


def test_without_an_index_there_are_vectors_and_a_named_error(visited: Visited, model_url: str) -> None:
    page = visited.page
    opened_on(page, visited.served, model=model_url)
    assert page.evaluate("async () => (await insitu.embed(['a']))[0].length") == 384
    assert caught(page, "insitu.search('a')")[1] == "runtime-unavailable"


def test_the_search_page_answers_while_typing_and_links_to_the_passage(visited: Visited) -> None:
    page, served = visited.page, visited.served
    page.goto(served.address + "insitu/search.html")
    page.get_by_label("Ask in your own words").fill("how do I mend a flat tyre")
    first = page.locator("#hits li").first
    expect(first.locator("a")).to_have_text("Repairing a bicycle")
    expect(first.locator("a")).to_have_attribute("href", served.address + "bicycles.html#top")
    expect(first.locator(".text")).to_contain_text("inner tube")
    expect(page.get_by_role("status")).to_contain_text("ms")
    expect(page.locator("#loading")).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(first.locator("a")).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Escape")
    expect(page.locator("#hits li")).to_have_count(0)


def test_the_search_page_answers_with_the_network_cut(page: Page, serve_site: Serve) -> None:
    page.goto(serve_site().address + "insitu/search.html")
    expect(page.get_by_role("status")).to_contain_text("Ready")
    expect(page.locator("#loading")).to_be_hidden()
    page.context.set_offline(True)
    page.get_by_label("Ask in your own words").fill("which planets can I see at night")
    expect(page.locator("#hits a").first).to_have_text("Watching stars")


def test_markup_in_a_passage_is_shown_as_text(visited: Visited) -> None:
    page = visited.page
    page.goto(visited.served.address + "insitu/search.html?q=markup+that+runs+a+script+by+an+error+of+an+image")
    first = page.locator("#hits li").first
    expect(first.locator(".text")).to_contain_text("<script>console.error('ran')</script>")
    assert page.locator("#hits img, #hits script").count() == 0


def test_the_search_page_says_why_it_cannot_answer(browser: Any, serve_site: Serve) -> None:
    page = browser.new_page()
    page.goto(serve_site(missing={"/insitu/index.json"}).address + "insitu/search.html")
    expect(page.get_by_role("alert")).to_contain_text("insitu index DIR", timeout=60_000)
    page.close()
