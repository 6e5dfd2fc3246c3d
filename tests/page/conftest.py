"""A small site, indexed and served with the built web files, and a page on it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, Page, expect

from conftest import ROOT
from page.folder import Served
from page.texts import PAGES

T = TypeVar("T")
# Opening takes seconds, more on a busy machine.
expect.set_options(timeout=60_000)

Serve = Callable[..., Served]


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; in a thread of its own, as Playwright has the event loop of this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def runtime(model_dir: Path) -> Any:
    from insitu.runtime.native import NativeRuntime

    return NativeRuntime.open(model_dir, threads=1)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, runtime: Any, model_dir: Path, web_dist: Path) -> Path:
    """A site of twelve pages with its index, the model and the web files in `insitu/`."""
    from insitu.site import build_index

    folder = tmp_path_factory.mktemp("site")
    for name, html in PAGES.items():
        (folder / name).write_text(html, "utf-8")
    report = wait(build_index(folder, folder / "insitu", runtime, runtime.lock, model_dir=model_dir))
    assert report.pages == len(PAGES)
    shutil.copytree(os.environ.get("INSITU_WEB_DIST") or web_dist, folder / "insitu", dirs_exist_ok=True)
    bundle = ["--bundle", "--format=esm", f"--outfile={folder / 'parts.js'}", "--log-level=error"]
    subprocess.run([ROOT / "node_modules/.bin/esbuild", ROOT / "tests/page/parts.ts", *bundle], check=True)
    return folder


@pytest.fixture(scope="session")
def model_url(site: Path) -> str:
    """The path of the model's lock on the site."""
    return "/insitu/" + str(json.loads((site / "insitu/index.json").read_text())["model"])


@pytest.fixture
def serve_site(site: Path) -> Iterator[Serve]:
    """serve_site(**faults) -> Served, for the length of one test."""
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(Served(site, **faults).running())


@pytest.fixture(scope="session")
def opened(browser: Browser, site: Path) -> Iterator[Page]:
    """One page for all tests that only ask: `open()` was called, `insitu` holds what it gave."""
    with Served(site).running() as served:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(120_000)
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        context.on("request", lambda r: None if r.url.startswith((served.address, "blob:")) else wrong.append(r.url))
        page.goto(served.address + "empty.html")
        page.evaluate(OPEN)
        yield page
        context.close()
        assert wrong == [], "the console is empty and no request leaves the origin"


OPEN = """async (options) => {
    window.loading = [];
    window.insitu = await (await import('/insitu/insitu.js')).open({...options, onProgress: (l) => loading.push(l)});
}"""

# Runs `act` on the page; gives what it threw, as [name, code, message].
CAUGHT = """async (act) => {
    try { return ['no error', '', JSON.stringify(await eval(`(async () => (${act}))()`)) ?? '']; }
    catch (error) { return [error.name, error.code, error.message]; }
}"""


def caught(page: Page, act: str) -> tuple[str, str, str]:
    """(name, code, message) of the error that the expression `act` ends with."""
    name, code, message = page.evaluate(CAUGHT, act)
    return name, code, message
