"""What words cost a collection: `.venv/bin/python tests/bench/words.py [--count 10000] [--rounds 3]`.

Documents of 60 words, drawn by Zipf's law from 50,000, with random vectors, are imported into a folder and into a
browser with its profile on the disk. Then each is opened anew and asked: the first search by words (in the page this
makes the index), later ones, and after one more document. Milliseconds and MB.
"""

from __future__ import annotations

import argparse
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

import numpy as np
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/bench")]

import disk  # noqa: E402
from insitu.collection.collection import Collection  # noqa: E402
from insitu.collection.files import source_of  # noqa: E402
from insitu.collection.folder import FolderStore  # noqa: E402
from insitu.embedder import Embedder  # noqa: E402
from insitu.model.cache import export_dir  # noqa: E402
from insitu.model.exported import read_lock  # noqa: E402
from insitu.runtime.native import NativeRuntime  # noqa: E402
from many_documents import write_export  # noqa: E402
from page.conftest import wait  # noqa: E402

MODEL, DIM = ("minilm-l6", "int8"), 128
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
    count = arguments.count
    with (
        tempfile.TemporaryDirectory() as name,
        sync_playwright() as playwright,
        disk.opened(playwright, ROOT / "web/dist", export_dir(*MODEL)) as place,
    ):
        file, space = place.site / "big.insitu", read_lock(export_dir(*MODEL)).space(DIM).name
        codes = np.random.default_rng(1).integers(-127, 128, (count, DIM), np.int8)
        write_export(file, space, codes, np.full(count, 1 / 127 / 8, np.float32), {}, documents())
        wait(in_cpython(Path(name), file, export_dir(*MODEL), arguments.rounds))
        memory = "async () => (await performance.measureUserAgentSpecificMemory()).bytes / 1e6"
        usage = "async () => (await navigator.storage.estimate()).usageDetails?.indexedDB ?? 0"

        def ask(query: str, words: float) -> float:
            return disk.timed(page, f"held.search('{query}', {{words: {words}}})")

        place.fill(file.name)
        for again in ("first search by words", "the same, opened again"):
            page = place.open()
            disk.hold(page)
            page.evaluate("held.search('word')")
            before, stored = page.evaluate(memory), page.evaluate(usage)
            show("page", again, ask("word500", 0.3))
            page.wait_for_timeout(3000)
            show("page", "memory that it took", page.evaluate(memory) - before, unit="MB")
            show("page", "on the disk", (page.evaluate(usage) - stored) / 1e6, unit="MB")
            if again == "first search by words":
                page.close()
        for name, query in ASKED.items():
            for words in (0.0, 0.3):
                show("page", f"{name}, words: {words:g}", *[ask(query, words) for _ in range(arguments.rounds)])
        page.evaluate("held.put([{id: 'one', text: 'one more'}])")
        show("page", "search after one more document", ask("word500", 0.3))


if __name__ == "__main__":
    main()
