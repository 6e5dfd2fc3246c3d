"""insitu in a Chromium whose profile lies on the disk, as a visitor's does: where collections are measured."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import PAGE_TIMEOUT_MS, executable
from page.conftest import on_disk, settled
from page.folder import Served
from processes import resident

OPEN = "async () => { window.insitu = await (await import('/insitu.js')).open({model: '/model/model.lock.json'}); }"
FILL = """async (file) => {
    const blob = await (await fetch(file)).blob();
    const start = performance.now();
    await insitu.import('held', blob);
    const took = performance.now() - start;
    return [took, (await navigator.storage.estimate()).usageDetails?.indexedDB ?? 0];
}"""
ASK = """async ([questions, options]) => {
    const [embedding, whole, found] = [[], [], []];
    for (const question of questions) {
        let start = performance.now();
        await insitu.embed([question], {task: 'query', dim: 128});
        embedding.push(performance.now() - start);
        start = performance.now();
        const hits = await held.search(question, options);
        whole.push(performance.now() - start);
        found.push(hits.map(({id}) => id));
    }
    return {embedding, whole, found};
}"""


@dataclass(frozen=True)
class Asked:
    """Of each question: milliseconds of `embed` and of `search`, and the ids that were found."""

    embedding: list[float]
    whole: list[float]
    found: list[list[str]]

    @property
    def beyond(self) -> list[float]:
        """What each search took beyond the embedding of its question just before."""
        return [whole - embedding for whole, embedding in zip(self.whole, self.embedding, strict=True)]


@dataclass(frozen=True)
class Disk:
    """`site`: the folder that is served, with the web files and the model, to which files may be added."""

    site: Path
    address: str
    browser: Browser

    def open(self, *, settle: bool = True) -> Page:
        """A fresh page, `insitu` open there. `settle`: a text was embedded, and what goes on after open() is done."""
        page = self.browser.contexts[0].new_page()
        page.set_default_timeout(PAGE_TIMEOUT_MS)
        page.goto(self.address + "empty.html")
        page.evaluate(OPEN)
        if settle:
            page.evaluate("insitu.embed(['warm'])")
            settled(page)
        return page

    def fill(self, file: str) -> tuple[float, float]:
        """Import a file of the site as the collection `held`: milliseconds, and the bytes that IndexedDB then takes."""
        page = self.open()
        took, stored = page.evaluate(FILL, f"/{file}")
        page.close()
        return took, stored


@contextmanager
def opened(playwright: Playwright, web: Path, model_dir: Path, worker: bytes | None = None) -> Iterator[Disk]:
    """`web`: the built web files. `worker`: another script of the worker than theirs."""
    # A process of the browser may write to its profile for a moment after the browser has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        site = shutil.copytree(web, folder / "site")
        shutil.copytree(model_dir, site / "model")
        if worker is not None:
            (site / "worker.js").write_bytes(worker)
        path = executable(playwright)
        with Served(site).running() as served, on_disk(playwright, path, folder / "profile") as browser:
            yield Disk(site, served.address, browser)


def hold(page: Page) -> float:
    """Open the collection that was filled, as `held`; milliseconds."""
    return timed(page, "(async () => { window.held = await insitu.collection('held'); })()")


def weighed(place: Disk) -> tuple[Page, int]:
    """A fresh page, and the bytes of its process before it holds the collection that was filled.

    A small collection was opened, written and asked there: what any takes, Python's modules say, is not to count."""
    page = place.open()
    page.evaluate("""async () => {
        const small = await insitu.collection('small');
        await small.put([{id: 'one', text: 'a text'}]);
        await small.search('a question');
    }""")
    return page, resident(page)


def ask(page: Page, questions: Sequence[str], options: dict[str, Any]) -> Asked:
    """In turns: each question is embedded, then searched for in `held`."""
    return Asked(**page.evaluate(ASK, [list(questions), options]))


def timed(page: Page, act: str) -> float:
    """Milliseconds of a script's expression."""
    took: float = page.evaluate(
        f"async () => {{ const start = performance.now(); await ({act}); return performance.now() - start; }}"
    )
    return took
