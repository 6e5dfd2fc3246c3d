"""What an export and an import need in memory: `.venv/bin/python tests/bench/memory.py [--count 20000]`.

In the page: the page's process and the browser's own, which keeps files that a page made, in a Chromium whose profile
lies on the disk. In CPython: a process that does nothing else. The peak is the kernel's own (VmHWM, which can be set
back), so no moment is missed. Figures are in MB of 1,000,000 bytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from collection import OPEN, export, site_of  # noqa: E402
from page.conftest import on_disk  # noqa: E402
from page.folder import Served  # noqa: E402
from processes import held, of_kind  # noqa: E402

EXPORT = "async () => { window.file = await big.export(); return file.size; }"
IMPORT = "async () => { window.big = await insitu.import('big', window.file); }"
FETCH = "async () => { window.file = await (await fetch('/big.insitu')).blob(); }"
SETTLE_S = 3.0


def forget_peak(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5")


class Watched:
    """What processes hold: before, and at most since."""

    def __init__(self, processes: Sequence[int]) -> None:
        self.processes = processes
        for process in processes:
            forget_peak(process)
        self.before = [held(process, "VmRSS") for process in processes]

    def above(self) -> list[tuple[int, int]]:
        """Bytes before, and the peak above that, of each."""
        peaks = [held(process, "VmHWM") for process in self.processes]
        return [(before, peak - before) for before, peak in zip(self.before, peaks, strict=True)]


# --- the page ------------------------------------------------------------------------------------------------------


def processes(browser: Browser) -> tuple[int, int]:
    """The page's, which is the largest of those that run pages, and the browser's own."""
    (own,) = of_kind(browser, "browser")
    return max(of_kind(browser, "renderer"), key=lambda process: held(process, "VmRSS")), own


def opened(browser: Browser, address: str) -> Page:
    page = browser.contexts[0].new_page()
    page.set_default_timeout(600_000)
    page.goto(address + "empty.html")
    page.evaluate(OPEN)
    page.evaluate("insitu.embed(['warm'])")
    return page


def collected(page: Page) -> None:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    session.detach()
    time.sleep(SETTLE_S)


def in_page(folder: Path) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """(what was done, what the page's process and the browser's needed), each in a page that did nothing else."""
    path = (ROOT / ".build/chromium").read_text().strip()
    with Served(folder / "site").running() as served, sync_playwright() as playwright:
        for act, first, script in (("import", FETCH, IMPORT), ("export", None, EXPORT)):
            with on_disk(playwright, path, folder / "profile") as browser:
                page = opened(browser, served.address)
                if first:
                    page.evaluate(first)
                else:
                    page.evaluate("async () => { window.big = await insitu.collection('big'); }")
                collected(page)
                watched = Watched(processes(browser))
                page.evaluate(script)
                yield act, watched.above()


# --- CPython -------------------------------------------------------------------------------------------------------


def in_python(act: str, folder: Path) -> str:
    """What this process needs: bytes before and the peak above, as text. Run in a process of its own."""
    from insitu import open_collection

    notes = open_collection(folder / "collection", model="minilm-l6")
    if notes.stats()["documents"]:
        notes.search("warm", k=1)
    watched = Watched([os.getpid()])
    file = folder / ("site/big.insitu" if act == "import" else "copy.insitu")
    if act == "import":
        notes.import_file(file)
    else:
        notes.export_file(file)
    return " ".join(str(part) for part in watched.above()[0])


def child(act: str, folder: Path) -> tuple[int, int]:
    command = [sys.executable, __file__, "--child", act, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    before, above = done.stdout.split()[-2:]
    return int(before), int(above)


def document(number: int) -> dict[str, Any]:
    return {"id": f"note {number}", "text": f"the text of note {number}", "fields": {"date": number}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="documents, of one passage each")
    parser.add_argument("--child", choices=("import", "export"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(in_python(arguments.child, arguments.folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = site_of(folder) / "big.insitu"
        export(file, arguments.count, {"date": "number"}, document)
        size = file.stat().st_size / 1e6
        print(f"{arguments.count:,} documents, a file of {size:.1f} MB; in MB: before + peak above that")
        for act in ("import", "export"):
            show(f"CPython, {act}", child(act, folder))
        for act, (page, browser) in in_page(folder):
            show(f"page, {act}", page)
            show(f"browser's own process, {act}", browser)


def show(what: str, measured: tuple[int, int]) -> None:
    print(f"{what:38} {measured[0] / 1e6:8.1f} + {measured[1] / 1e6:.1f}", flush=True)


if __name__ == "__main__":
    main()
