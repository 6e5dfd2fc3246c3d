"""Random operations on collections in the page, held to a dictionary: on the store alone, and through the whole page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from page.conftest import bundle
from page.folder import Served

# 10,000 where there is time: see docs/development.md. Through the whole page fewer, as each embeds, asks and commits.
OPERATIONS = int(os.environ.get("INSITU_OPERATIONS", "1000"))
WHOLE_OPERATIONS = int(os.environ.get("INSITU_OPERATIONS", "400"))
SEED = int(os.environ.get("INSITU_SEED", "7"))


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    for name in ("store_walk", "whole_walk"):
        bundle(f"{name}.ts", site / f"{name}.js")
    with Served(site).running() as served:
        yield served


@pytest.mark.slow
def test_many_operations_by_two_tabs_with_reopening_and_a_clock_that_goes_back(
    browser: Browser, served: Served
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(2_000_000)
    page.goto(served.address + "empty.html")
    page.evaluate("""() => {
        let now = 2e12;
        Date.now = () => (now -= 60_000);
    }""")
    done = page.evaluate("async (count) => (await import('/store_walk.js')).walk('walk', 5, count)", OPERATIONS)
    assert isinstance(done, dict), done
    assert done.pop("held") > OPERATIONS // 20
    assert len(done) == 9 and min(done.values()) > OPERATIONS // 400 and sum(done.values()) == OPERATIONS
    context.close()


@pytest.mark.slow
def test_many_operations_through_the_whole_page_by_two_tabs(browser: Browser, served: Served) -> None:
    """Each answer is that of a dictionary, and each score that of the same texts in a collection that nobody changed."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(2_000_000)
    page.goto(served.address + "empty.html")
    walk = "async ([seed, count]) => (await import('/whole_walk.js')).walk('whole', seed, count)"
    done = page.evaluate(walk, [SEED, WHOLE_OPERATIONS])
    assert len(done) > 10 and sum(done.values()) == WHOLE_OPERATIONS
    context.close()
