"""`open({rows})`: the page's vectors do not depend on how its token rows come, and no call waits for ever."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from page.conftest import Serve, caught, opened_on
from page.folder import Served, refuse, wait_for
from page.rows.tab import QUIET, until
from page.texts import SCRIPTS

TEXTS = [*SCRIPTS, "how do I keep part of a page out of the index", "zymurgy, quokka and a xylophone"]
EMBED = "async (texts) => (await insitu.embed(texts, { task: 'query' })).map((vector) => [...vector])"


@pytest.fixture
def served(serve_site: Serve) -> Served:
    return serve_site(script=QUIET)


def open_on(page: Page, served: Served, **options: Any) -> dict[str, Any]:
    stats: dict[str, Any] = opened_on(page, served, **options)["rows"]
    return stats


def test_vectors_are_the_same_however_the_rows_come(page: Page, opened: Page, served: Served, model_url: str) -> None:
    assert opened.evaluate("insitu.stats()")["rows"]["mode"] == "all"
    assert open_on(page, served, model=model_url, rows="stream")["mode"] == "stream"
    assert served.parts == []
    assert page.evaluate(EMBED, TEXTS) == opened.evaluate(EMBED, TEXTS)
    assert served.parts and "" not in served.parts


def test_the_search_page_asks_for_few_rows(page: Page, served: Served, site: Path, model_url: str) -> None:
    # Golden texts would have rows fetched too, once.
    lock = json.loads((site / model_url.lstrip("/")).read_text()) | {"canary": []}
    served.instead[model_url] = json.dumps(lock).encode()
    open_on(page, served, rows="stream")
    assert page.evaluate("async () => (await insitu.search('cats'))[0].title") == "Keeping cats"
    assert 0 < served.sent < 200_000


def test_an_open_page_fetches_ahead_what_most_questions_need(page: Page, serve_site: Serve, model_url: str) -> None:
    served = serve_site()
    open_on(page, served, model=model_url, rows="stream")
    until(page, lambda: served.sent > 7.9e6)
    first, last = served.ranges()[0]
    assert last - first < 500_000, "the prompts and the keyboard come first"
    asked = len(served.parts)
    page.evaluate(EMBED, ["where is the house of the red cat? (50% off!)"])
    assert len(served.parts) == asked


def test_a_call_whose_rows_do_not_come_ends_and_the_others_go_on(page: Page, served: Served, model_url: str) -> None:
    open_on(page, served, model=model_url, rows="stream")
    page.evaluate(EMBED, ["cats"])
    over = threading.Event()
    served.fault = wait_for(over)
    stop = """async () => {
        window.stop = new AbortController();
        window.slow = insitu.embed(['volcano zebra'], { signal: stop.signal }).catch((error) => error.code);
        return (await insitu.embed(['cats'])).length;
    }"""
    assert page.evaluate(stop) == 1
    assert page.evaluate("async () => { stop.abort(); return slow; }") == "aborted"
    over.set()
    served.fault = None
    assert page.evaluate("async () => (await insitu.embed(['volcano zebra', 'tulip'])).length") == 2


def test_a_server_that_refuses_rows_is_a_named_error(faulty: Page, served: Served, model_url: str) -> None:
    open_on(faulty, served, model=model_url, rows="stream")
    served.fault = refuse(503)
    found = caught(faulty, "insitu.embed(['cats'])")
    assert found[:2] == ("FetchFailed", "fetch-failed"), found
    served.fault = None
    assert faulty.evaluate(EMBED, ["cats"])


def test_another_mode_is_refused(page: Page, served: Served) -> None:
    page.goto(served.address + "empty.html")
    assert caught(page, "(await import('/insitu/insitu.js')).open({ rows: 'some' })")[1] == "invalid-argument"
