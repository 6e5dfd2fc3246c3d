"""A visitor's first and second visit: how long until the first answer, and which bytes it took."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Playwright

from browser import ARGUMENTS, PAGE_TIMEOUT_MS, Site, executable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAY_MS = 4000
# A browser that has just started is busy with itself, which is up to a quarter of a second of a visit.
SETTLING_MS = 1000
QUESTION = "how do I keep part of a page out of the index"


@dataclass(frozen=True)
class Visit:
    """Milliseconds from the start of the navigation to the first answer, and the files that the server sent for it."""

    answered: float
    opened: float
    files: list[Path]
    stats: dict[str, Any]


def index_docs(out: Path) -> Path:
    """The documentation site of this repository, indexed: what `build.py demo` serves. Its folder `insitu`."""
    site = out / "site"
    shutil.rmtree(site, ignore_errors=True)
    for command in ([str(ROOT / "docs" / "site.py"), str(site)], ["-m", "insitu", "index", str(site)]):
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return site / "insitu"


def visit(playwright: Playwright, profile: Path, site: Site, options: dict[str, Any]) -> Visit:
    """One visit with the browser profile in `profile`; the browser is started a second before and closed after it."""
    context = playwright.chromium.launch_persistent_context(
        str(profile), executable_path=executable(playwright), args=list(ARGUMENTS), headless=True
    )
    try:
        page = context.pages[0] if context.pages else context.new_page()
        page.set_default_timeout(PAGE_TIMEOUT_MS)
        page.wait_for_timeout(SETTLING_MS)
        site.served.clear()
        page.goto(f"{site.base}/visit.html#{quote(json.dumps([options, QUESTION]))}")
        page.wait_for_function("globalThis.result !== undefined")
        result = page.evaluate("result")
        if result["hits"] < 1:
            raise RuntimeError("The first question had no answer.")
        # A visitor stays for a moment. What the next visit starts from is stored then, by the page and, some seconds
        # later, by the browser: the compiled WASM.
        page.evaluate("bench.settled()")
        page.wait_for_timeout(STAY_MS)
        files = [file for file in dict.fromkeys(site.served) if file.parent != HERE]
        return Visit(float(result["answered"]), float(result["opened"]), files, result["stats"])
    finally:
        context.close()


def pair(playwright: Playwright, site: Site, options: dict[str, Any]) -> tuple[Visit, Visit]:
    """A first visit with a fresh profile, then a second one with the same."""
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as profile:
        first = visit(playwright, Path(profile), site, options)
        return first, visit(playwright, Path(profile), site, options)


def joined(visit: Visit) -> float:
    """Milliseconds from the end of the slowest load to the end of `open()`: what joining the parts costs."""
    ends = [step["start"] + step["took"] for name, step in visit.stats["steps"].items() if name != "index"]
    return float(visit.opened - max(ends))


def sizes(
    files: Sequence[Path], folders: dict[str, Path], cache: Path, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Raw, gzip and brotli bytes of each file, largest first, and their sum.

    brotli takes minutes for all of them, so each result is kept in `cache` by the hash of its file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    kept_file = cache / "compressed.json"
    kept: dict[str, list[int]] = json.loads(kept_file.read_text()) if kept_file.exists() else {}
    names = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    new = [file for file in files if names[file] not in kept]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {pool.submit(_compressed, file): file for file in new}
        for done, future in enumerate(as_completed(waiting), 1):
            kept[names[waiting[future]]] = future.result()
            kept_file.write_text(json.dumps(kept))
            progress(done, len(new))
    rows: list[dict[str, Any]] = []
    for file in sorted(files, key=lambda file: -kept[names[file]][1]):
        gzip, brotli = kept[names[file]]
        rows.append({"file": _short(file, folders), "raw": file.stat().st_size, "gzip": gzip, "brotli": brotli})
    total = {key: sum(row[key] for row in rows) for key in ("raw", "gzip", "brotli")}
    return [*rows, {"file": "in all", **total}]


def _compressed(file: Path) -> list[int]:
    node = ["node", str(HERE / "compress.mjs"), str(file)]
    sizes: list[int] = json.loads(subprocess.run(node, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return sizes


def _short(file: Path, folders: dict[str, Path]) -> str:
    return next(
        (str(file.relative_to(folder)) for folder in folders.values() if file.is_relative_to(folder)), file.name
    )
