"""What words cost a collection: `.venv/bin/python tests/bench/words.py [--count 10000] [--rounds 3]`.

Documents of 60 words, drawn by Zipf's law from 50,000, with random vectors, are imported into a folder and into a
browser with its profile on the disk. Then each is opened anew and asked: the first search by words (in the page this
makes the index), later ones, and after one more document. Milliseconds and MB.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/bench")]

from collection import MODEL, export, opened, site_of, timed, usage  # noqa: E402
from conftest import CHROMIUM_ARGS  # noqa: E402
from insitu.collection.collection import Collection  # noqa: E402
from insitu.collection.files import source_of  # noqa: E402
from insitu.collection.folder import FolderStore  # noqa: E402
from insitu.embedder import Embedder  # noqa: E402
from insitu.model.cache import export_dir  # noqa: E402
from insitu.runtime.native import NativeRuntime  # noqa: E402
from page.folder import Served  # noqa: E402

VOCABULARY, WORDS = 50_000, 60
ASKED = {"rare words": "word500 word4000", "with frequent words": "word0 word1 word3 word30 word500 word4000"}


def documents() -> Callable[[int], dict[str, Any]]:
    """What `export` asks: documents of 60 words, frequent ones and rare."""
    draw = random.Random(1)
    edges = list(accumulate(1 / place for place in range(1, VOCABULARY + 1)))

    def text() -> str:
        return " ".join(f"word{bisect(edges, draw.random() * edges[-1])}" for _ in range(WORDS))

    return lambda number: {"id": f"note {number}", "text": text()}


def show(place: str, what: str, *values: float, unit: str = "ms") -> None:
    print(f"{place:8} {what:44} {'  '.join(f'{value:,.1f}' for value in sorted(values))} {unit}", flush=True)


async def in_cpython(folder: Path, file: Path, model: Path, rounds: int) -> None:
    runtime = NativeRuntime.open(model, threads=1)
    embedder = Embedder(runtime, runtime.lock)

    async def ask(notes: Collection, query: str, words: float) -> float:
        start = time.perf_counter()
        await notes.search(query, words=words)
        return 1000 * (time.perf_counter() - start)

    notes = await Collection.open(embedder, FolderStore(folder))
    await notes.restore(*source_of(file))
    size = (folder / "collection.sqlite").stat().st_size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    show("CPython", "first search by words, index made", await ask(notes, "word500", 0.3))
    show(
        "CPython", "memory that it took", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3, unit="MB"
    )
    # The size of the file counts when what lies in its log is in it. No store has a use for that, so the seam, which is
    # all that mypy knows of this one, has no way to say it.
    notes.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[attr-defined]
    show("CPython", "on the disk", ((folder / "collection.sqlite").stat().st_size - size) / 1e6, unit="MB")
    notes.store.close()
    notes = await Collection.open(embedder, FolderStore(folder))
    show("CPython", "first search by words, opened again", await ask(notes, "word500", 0.3))
    for name, query in ASKED.items():
        for words in (0.0, 0.3):
            show("CPython", f"{name}, words: {words:g}", *[await ask(notes, query, words) for _ in range(rounds)])
    await notes.put([{"id": "one", "text": "one more"}])
    show("CPython", "search after one more document", await ask(notes, "word500", 0.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="documents")
    parser.add_argument("--rounds", type=int, default=5, help="searches of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = site_of(folder)
        export(site / "big.insitu", arguments.count, {}, documents())
        asyncio.run(in_cpython(folder / "folder", site / "big.insitu", export_dir(*MODEL), arguments.rounds))
        path = (ROOT / ".build/chromium").read_text().strip()
        with Served(site).running() as served, sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                folder / "profile", executable_path=path, args=CHROMIUM_ARGS
            )
            memory = "async () => (await performance.measureUserAgentSpecificMemory()).bytes / 1e6"

            def ask(query: str, words: float) -> float:
                return timed(page, f"big.search('{query}', {{words: {words}}})")

            page = opened(context, served.address)
            page.evaluate(
                "async () => { window.big = await insitu.import('big', await (await fetch('/big.insitu')).blob()); }"
            )
            page.close()
            for again in ("first search by words", "the same, opened again"):
                page = opened(context, served.address)
                page.evaluate("async () => { window.big = await insitu.collection('big'); await big.search('word'); }")
                before, stored = page.evaluate(memory), usage(page)
                show("page", again, ask("word500", 0.3))
                page.wait_for_timeout(3000)
                show("page", "memory that it took", page.evaluate(memory) - before, unit="MB")
                show("page", "on the disk", (usage(page) - stored) / 1e6, unit="MB")
                if again == "first search by words":
                    page.close()
            for name, query in ASKED.items():
                for words in (0.0, 0.3):
                    show("page", f"{name}, words: {words:g}", *[ask(query, words) for _ in range(arguments.rounds)])
            page.evaluate("big.put([{id: 'one', text: 'one more'}])")
            show("page", "search after one more document", ask("word500", 0.3))
            context.close()


if __name__ == "__main__":
    main()
