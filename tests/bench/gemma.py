"""EmbeddingGemma's architecture at its full size, on random weights: time against native onnxruntime, bytes, memory.

The checkpoint (1.2 GB) and its exports are made at the first run and kept in `.build/bench`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Playwright

import unwatched
import visit
from browser import Site, executable, new_page
from insitu.model.export import export
from insitu.model.exported import read_lock
from insitu.model.manifest import load
from ours import NativeSubject, PageSubject
from report import Report

VARIANTS = ("int8", "q8", "q4")
# Tokens of a question and of a passage, with the budget for page / native: the plan's.
SIZES = {16: 6.0, 256: 4.5}
# Of q8 the plan wants nothing.
GRAPH_MEGABYTES = {"int8": 105, "q4": 60}
MEMORY_MEGABYTES = 200
FIRST_MEGABYTES = {"q4": 75}  # of a page that asks, for which q4 is
SECOND_MS, JOINING_MS = 2500, 300
# Of visits, first and second. Each takes a quarter of a minute.
PAIRS = 3


def prepare(out: Path, *, full: bool = True) -> dict[str, Path]:
    """The folder of each exported variant. `full`: of the real model's size, not the tiny one of the tests."""
    sys.path.insert(0, str(visit.ROOT / "tests"))
    from make_checkpoint import make

    checkpoint = out / "random-gemma"
    if not (checkpoint / "model.json").exists():  # written last
        make(checkpoint, full=full)
    folders = {}
    moments: dict[str, Any] = {}  # what takes longest to find, the same for all variants
    for variant in VARIANTS:
        folder = folders[variant] = out / f"random-gemma-{variant}"
        if not folder.exists() or read_lock(folder).weights != load(str(checkpoint)).identity():
            export(str(checkpoint), variant, out=folder, moments=moments)
    return folders


def measure(
    playwright: Playwright, report: Report, folders: dict[str, Path], web: Path, threads: int, rounds: int
) -> None:
    """What the tab holds; then texts of each size in the page and natively, in turns."""
    for variant, folder in folders.items():
        native = NativeSubject(folder, threads)
        site = Site({"bench": visit.HERE, "insitu": web, "model": folder})
        try:
            _memory(playwright, report, site, variant, threads)
            with new_page(playwright, f"{site.base}/blank.html") as page:
                ours = PageSubject(
                    page, bench="/bench", base="/insitu", model="/model/model.lock.json", threads=threads
                )
                subjects = {"page": ours.each, "native": native.each}
                for size, budget in SIZES.items():
                    _turns(report, subjects, native, size, budget, variant, threads, rounds)
            with new_page(playwright, f"{site.base}/blank.html") as page:
                _first_visit(report, page, site, native, variant, threads)
        finally:
            site.close()
            native.close()
        graph = read_lock(folder).graph
        report.add(f"EmbeddingGemma's size, {variant}: graph", "file", threads, "MB", [graph.bytes / 1e6])
        if variant in GRAPH_MEGABYTES:
            report.check(f"{variant} graph", graph.bytes / 1e6, "<=", GRAPH_MEGABYTES[variant], "MB")


def blank(playwright: Playwright, report: Report) -> None:
    """What Chromium takes for a page with nothing in it."""
    site = Site({})
    try:
        held = unwatched.blank(executable(playwright), site)
    finally:
        site.close()
    for what, size in (("resident set of its process", held.resident), ("of that, private to it", held.private)):
        report.add("a blank page: memory of the tab", what, None, "MB", [size / 1e6])


def visits(playwright: Playwright, report: Report, folders: dict[str, Path], web: Path, rounds: int) -> None:
    """First and second visits of a page that asks: token rows on demand, threads as the page takes them."""
    options = {"base": "/insitu", "model": "/model/model.lock.json", "rows": "stream"}
    for variant, folder in folders.items():
        site = Site({"bench": visit.HERE, "insitu": web, "model": folder})
        try:
            pairs = [visit.pair(playwright, site, options) for _ in range(min(rounds, PAIRS))]
        finally:
            site.close()
        threads = int(pairs[0][0].stats["threads"])
        name = f"EmbeddingGemma's size, {variant}: until the first answer"
        for which, times in zip(("first", "second"), zip(*pairs, strict=True), strict=True):
            report.add(name, f"{which} visit", threads, "ms", [one.answered for one in times])
        report.check(
            f"{variant}, second visit, until the first answer", report.figures[-1].median, "<=", SECOND_MS, "ms"
        )
        joins = statistics.median(visit.joined(first) for first, _ in pairs)
        report.check(f"{variant}, first visit, from the end of its slowest load to open", joins, "<=", JOINING_MS, "ms")


def _turns(
    report: Report,
    subjects: Mapping[str, Callable[[Sequence[str]], list[float]]],
    native: NativeSubject,
    size: int,
    budget: float,
    variant: str,
    threads: int,
    rounds: int,
) -> None:
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        text = sized(size, number, native)
        for name, run in subjects.items():
            taken = run([text])
            times[name] += taken if number else []  # the first round warms up
    measured = f"EmbeddingGemma's size, {variant}, {size} tokens"
    for name, values in times.items():
        report.add(measured, name, threads, "ms", values)
    page, other = (report.median(measured, name, threads) or 0.0 for name in ("page", "native"))
    report.check(f"{measured}, {threads} threads: page / native", page / other, "<=", budget)


def sized(size: int, number: int, native: NativeSubject) -> str:
    """A question, another for each `number`, that has `size` tokens with its prompt, or one or two fewer."""
    prompt = native.runtime.lock.prompt("query")
    text = f"{number}"
    while native.tokens(f"{prompt}{text} a") <= size:
        text += " a"
    return text


def _memory(playwright: Playwright, report: Report, site: Site, variant: str, threads: int) -> None:
    """What the page's process holds with everything loaded and one answer given, and the browser's count."""
    options = {"base": "/insitu", "model": "/model/model.lock.json", "threads": threads}
    name = f"EmbeddingGemma's size, {variant}: memory of the tab"
    visits = unwatched.visits(executable(playwright), site, options, visit.QUESTION)
    for which, found in zip(("first", "second"), visits, strict=True):
        for what, held in (
            ("measureUserAgentSpecificMemory", found.counted),
            ("resident set of its process", found.later.resident),
            ("of that, private to it", found.later.private),
            ("private, at the answer", found.at_once.private),
        ):
            report.add(f"{name}, {which} visit", what, threads, "MB", [held / 1e6])
        sizes = {"as the browser counts it": found.counted}
        if variant == "q4":
            sizes["resident set"] = found.later.resident
        for what, size in sizes.items():
            checked = f"{variant}, {which} visit, memory of the tab, {what} ({threads} threads)"
            report.check(checked, size / 1e6, "<=", MEMORY_MEGABYTES, "MB")


def _first_visit(report: Report, page: Page, site: Site, native: NativeSubject, variant: str, threads: int) -> None:
    """The bytes of a visit that ends with the first answer, token rows on demand, as they lie (not compressed)."""
    site.served.clear()
    site.parts.clear()
    page.add_script_tag(url="/bench/ours.js", type="module")
    page.wait_for_function("globalThis.bench !== undefined")
    options = {"base": "/insitu", "model": "/model/model.lock.json", "threads": threads, "rows": "stream"}
    page.evaluate("([options, question]) => bench.first(options, question)", [options, visit.QUESTION])
    rows = sum(site.parts.values())
    whole = sum(file.stat().st_size for file in dict.fromkeys(site.served) if file.parent != visit.HERE)
    name = f"EmbeddingGemma's size, {variant}: bytes until the first answer, rows on demand"
    report.add(name, "token rows", threads, "MB", [rows / 1e6], f"{native.tokens(visit.QUESTION)} tokens")
    report.add(name, "all, not compressed", threads, "MB", [(rows + whole) / 1e6])
    if variant in FIRST_MEGABYTES:
        budget = FIRST_MEGABYTES[variant]
        report.check(f"{variant}, bytes until the first answer", (rows + whole) / 1e6, "<=", budget, "MB")
