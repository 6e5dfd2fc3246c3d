"""What a collection costs: `.venv/bin/python tests/bench/collection.py [--count 100000] [--put 1000]`.

A file of random vectors is imported into a browser with its profile on the disk; then a fresh page opens the collection
and asks it. The put embeds real texts. Figures are medians, in milliseconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from conftest import CHROMIUM_ARGS  # noqa: E402
from insitu.model.cache import export_dir  # noqa: E402
from insitu.model.exported import read_lock  # noqa: E402
from many_documents import write_export  # noqa: E402
from page.conftest import settled  # noqa: E402
from page.folder import Served  # noqa: E402
from texts import passages  # noqa: E402

MODEL, DIM = ("minilm-l6", "int8"), 128
OPEN = "async () => { window.insitu = await (await import('/insitu.js')).open({model: '/model/model.lock.json'}); }"
MEDIAN = "const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];"
ASK = f"""async (options) => {{
    {MEDIAN}
    const [vector, whole] = [[], []];
    for (let i = 0; i < 41; i++) {{
        const query = `question number ${{i}}`;
        let start = performance.now();
        await insitu.embed([query], {{task: 'query', dim: 128}});
        vector.push(performance.now() - start);
        start = performance.now();
        await big.search(query, options);
        whole.push(performance.now() - start);
    }}
    return [median(vector), median(whole)];
}}"""


def site_of(folder: Path) -> Path:
    """A folder to serve: the web files and the model."""
    shutil.copytree(ROOT / "web/dist", folder / "site")
    shutil.copytree(export_dir(*MODEL), folder / "site/model")
    return folder / "site"


def export(path: Path, count: int, fields: Mapping[str, str], document: Callable[[int], dict[str, Any]]) -> None:
    """An export of `count` documents of one passage with random codes of `MODEL`'s space. See `write_export`."""
    codes = np.random.default_rng(1).integers(-127, 128, (count, DIM), np.int8)
    scales = np.full(count, 1 / 127 / 8, np.float32)
    write_export(path, read_lock(export_dir(*MODEL)).space(DIM).name, codes, scales, fields, document)


def tagged(number: int) -> dict[str, Any]:
    fields = {"tag": f"tag {number % 50}", "date": number}
    return {"id": f"note {number}", "text": f"the text of note {number}", "fields": fields}


def timed(page: Page, act: str) -> float:
    took: float = page.evaluate(
        f"async () => {{ const start = performance.now(); await ({act}); return performance.now() - start; }}"
    )
    return took


def usage(page: Page) -> int:
    found: int = page.evaluate("async () => (await navigator.storage.estimate()).usageDetails?.indexedDB ?? 0")
    return found


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(600_000)
    page.goto(address + "empty.html")
    page.evaluate(OPEN)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="documents that are imported")
    parser.add_argument("--put", type=int, default=1000, help="documents that are embedded and put; 0: none")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"count": arguments.count}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        site = site_of(folder)
        export(site / "big.insitu", arguments.count, {"tag": "keyword", "date": "number"}, tagged)
        figures["file, bytes a document"] = (site / "big.insitu").stat().st_size / arguments.count
        path = (ROOT / ".build/chromium").read_text().strip()
        with Served(site).running() as served:
            context = playwright.chromium.launch_persistent_context(
                folder / "profile", executable_path=path, args=CHROMIUM_ARGS
            )
            page = opened(context, served.address)
            page.evaluate("async () => { window.file = await (await fetch('/big.insitu')).blob(); }")
            figures["import"] = timed(page, "insitu.import('big', file)")
            figures["IndexedDB, bytes a document"] = usage(page) / arguments.count
            page.close()
            times = []
            for _ in range(5):
                page = opened(context, served.address)
                times.append(timed(page, "(async () => { window.big = await insitu.collection('big'); })()"))
                if len(times) < 5:
                    page.close()
            figures["open"] = sorted(times)
            settled(page)  # else the first searches wait for what goes on after open()
            page.evaluate(ASK, {"k": 10})  # and are compiled
            stats = page.evaluate("big.stats()")
            figures["vectors, bytes each"] = stats["dim"] + 8
            figures["embedding a query, search with it"] = page.evaluate(ASK, {"k": 10})
            figures["first filter"] = timed(page, "big.search('a question', {where: {tag: 'tag 7'}})")
            figures["the same with a filter (2 %)"] = page.evaluate(ASK, {"k": 10, "where": {"tag": "tag 7"}})
            figures["the same with a range (half)"] = page.evaluate(
                ASK, {"k": 10, "where": {"date": {"gte": arguments.count // 2}}}
            )
            figures["put of one short text"] = timed(page, "big.put([{id: 'one', text: 'one more'}])")
            figures["delete of 30,000"] = timed(page, "big.delete(Array.from({length: 30000}, (_, i) => `note ${i}`))")
            if arguments.put:
                texts = passages(arguments.put)
                page.evaluate("(texts) => { window.texts = texts; }", texts)
                page.evaluate("async () => { window.notes = await insitu.collection('notes'); }")
                figures["embedding alone"] = timed(page, "insitu.embed(texts, {dim: 128})")
                put = "notes.put(texts.map((text, i) => ({id: `${i}`, text})))"
                figures["put"] = timed(page, put)
                figures["put again, nothing changed"] = timed(page, put)
            context.close()
    for name, value in figures.items():
        shown = value if isinstance(value, list) else [value]
        print(f"{name:38} {'  '.join(f'{number:,.1f}' for number in shown)}")


if __name__ == "__main__":
    main()
