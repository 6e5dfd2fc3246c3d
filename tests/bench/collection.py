"""What a collection costs: `build.py bench --only collection --documents 100000`.

An export of documents with vectors like real ones is imported into a browser with its profile on the disk; then fresh
pages open the collection, and one asks it. A question is embedded and then searched for, so each search has the time
of its own embedding beside it. From a million documents on clusters answer, and the exact search is measured too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Playwright

import disk
from insitu.model.exported import read_lock
from many_documents import write_export
from page.conftest import TELL_CLUSTERS, until, worker
from processes import resident
from report import Report
from scan import DIM, QUERIES, K, Vectors, like, recall

# The budgets speak of so many.
BUDGETED = 100_000
# From so many on, web/src/clusters.ts makes them.
CLUSTERED = 1 << 20
FIELDS = {"tag": "keyword", "date": "number"}
OPENED, DELETED = 5, 30_000
# Questions asked with each filter.
FILTERED = 41
# What lies in the table of segments: codes, scales, document numbers.
SEGMENTS = """() => new Promise((done, failed) => {
    const opening = indexedDB.open('insitu collection held');
    opening.onerror = failed;
    opening.onsuccess = () => {
        let bytes = 0;
        const tx = opening.result.transaction(['segments', 'segments 2']);
        for (const name of tx.objectStoreNames) {
            tx.objectStore(name).openCursor().onsuccess = ({target: {result}}) => {
                if (!result) return;
                bytes += result.value.data.byteLength;
                result.continue();
            };
        }
        tx.oncomplete = () => (opening.result.close(), done(bytes));
        tx.onerror = failed;
    };
})"""
MADE = """async () => {
    const told = new BroadcastChannel('clusters');
    let made = false;
    told.onmessage = () => (made = true);
    const start = performance.now();
    while (!made) {
        await held.search('a question');
        await new Promise((done) => setTimeout(done, 100));
    }
    told.close();
    return performance.now() - start;
}"""


def document(number: int) -> dict[str, Any]:
    fields = {"tag": f"tag {number % 50}", "date": number}
    return {"id": f"note {number}", "text": f"the text of note {number}", "fields": fields}


def measure(playwright: Playwright, report: Report, real: Vectors, web: Path, model_dir: Path, count: int) -> None:
    """With `count` documents of one passage each, whose vectors are like `real` ones."""
    name = f"collection of {count:,}"
    vectors, texts = like(real, count), slice(QUERIES, None)
    with (
        tempfile.TemporaryDirectory() as folder,
        disk.opened(playwright, web, model_dir, _telling(Path(folder)) if count >= CLUSTERED else None) as place,
    ):
        file, space = place.site / "big.insitu", read_lock(model_dir).space(DIM).name
        write_export(file, space, vectors.codes[texts], vectors.scales[texts], FIELDS, document)
        del vectors
        took, stored = place.fill(file.name)
        report.add(f"{name}: import", "page", None, "s", [took / 1e3])
        report.add(f"{name}: bytes a document", "IndexedDB", None, "", [stored / count])
        opening = report.add(f"{name}: open", "page", None, "ms", [_opening(place) for _ in range(OPENED)])
        page, before = disk.weighed(place) if count >= BUDGETED else (place.open(), 0)
        disk.hold(page)
        segments = page.evaluate(SEGMENTS) / count
        report.add(f"{name}: bytes a vector", "IndexedDB, its segments", None, "", [segments])
        if count >= CLUSTERED:
            report.add(f"{name}: until clusters are made", "page", None, "s", [page.evaluate(MADE) / 1e3])
        if count >= BUDGETED:  # fewer are lost in what else the page holds
            grown = (resident(page) - before) / count
            report.add(f"{name}: bytes a vector", "memory, by which the page's process grew", None, "", [grown])
            report.check(f"{name}: bytes a vector in memory", grown, "<=", 160, "")
        page.evaluate("held.search('a question')")
        if count <= BUDGETED:  # of more documents the texts stay in the database
            until(page, "(await held.stats()).held > 0")
        if count == BUDGETED:
            grown = (resident(page) - before) / count
            report.add(f"{name}: bytes a document, its text too", "memory, likewise", None, "", [grown])
        if count == BUDGETED:
            report.check(f"{name}: open", opening.median, "<=", 300, "ms")
            report.check(f"{name}: bytes a vector in segments", segments, "<=", 160, "")
        _searches(report, page, name, real.questions, count)
        for what, act in (
            ("first put of one short text", "held.put([{id: 'one', text: 'one more'}])"),
            ("another put of one", "held.put([{id: 'two', text: 'two more'}])"),
            (f"delete of {DELETED:,}", f"held.delete(Array.from({{length: {DELETED}}}, (_, i) => `note ${{i}}`))"),
        ):
            report.add(f"{name}: {what}", "page", None, "ms", [disk.timed(page, act)])
    report.notes.append(f"The vectors of the {name} are {count:,} like {real.what}: see `scan.like`.")


def _telling(folder: Path) -> bytes:
    """The worker from the sources, which tells when clusters are asked."""
    return (worker(folder / "worker.js") + TELL_CLUSTERS).encode()


def _opening(place: disk.Disk) -> float:
    page = place.open(settle=False)
    took = disk.hold(page)
    page.close()
    return took


def _searches(report: Report, page: Page, name: str, questions: list[str], count: int) -> None:
    disk.ask(page, questions[:20], {"k": K})  # what answers is compiled by then
    first = disk.timed(page, "held.search('a question', {where: {tag: 'tag 7'}})")
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("k = 10", {}),
        ("a filter that 2 % pass", {"where": {"tag": "tag 7"}}),
        ("a range that half pass", {"where": {"date": {"gte": count // 2}}}),
    ]
    if count >= CLUSTERED:
        kinds.insert(1, ("k = 10, exact", {"exact": True}))
    found = {}
    for what, options in kinds:
        asked = disk.ask(page, questions[: FILTERED if "where" in options else None], {"k": K, **options})
        found[what] = asked.found
        report.add(f"{name}: question, {what}", "embedding it", None, "ms", asked.embedding)
        report.add(f"{name}: question, {what}", "search", None, "ms", asked.whole)
        pairs = report.add(f"{name}: question, {what}", "search beyond it, in pairs", None, "ms", asked.beyond)
        if what == "k = 10" and count == BUDGETED:
            report.check(f"{name}: search beyond embedding, median of pairs", pairs.median, "<=", 3, "ms")
    if exact := found.get("k = 10, exact"):
        share = recall(found["k = 10"], exact)
        report.check(f"{name}: clusters, recall@10 against the exact search", share, ">=", 0.95, "")
    report.add(f"{name}: first filter", "page", None, "ms", [first])
