"""Random operations on collections in the page, held to a dictionary: on the store alone, and through the whole page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from page.conftest import bundle
from page.folder import Served

# 10,000 where there is time: see docs/development.md.
OPERATIONS = int(os.environ.get("INSITU_OPERATIONS", "1000"))


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    bundle("store_walk.ts", site / "store_walk.js")
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
    assert len(done) == 8 and min(done.values()) > OPERATIONS // 400 and sum(done.values()) == OPERATIONS
    context.close()
