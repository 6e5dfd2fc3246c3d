"""What an export and an import need in memory: `build.py bench --only memory`.

In the page: the page's process and the browser's own, which keeps files that a page made, in a Chromium whose profile
lies on the disk. In CPython: a process that does nothing else. The peak is the kernel's own (VmHWM, which can be set
back), so no moment is missed. Figures are what comes above that which was held before, in MB of 1,000,000 bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Playwright

import disk
from insitu.model.exported import read_lock
from many_documents import write_export
from processes import busiest, held, of_kind, resident
from report import Report
from scan import DIM

COUNT = 20_000
EXPORT = "async () => { window.file = await big.export(); return file.size; }"
IMPORT = "async () => { window.big = await insitu.import('big', window.file); }"
FETCH = "async () => { window.file = await (await fetch('/big.insitu')).blob(); }"
HOLD = "async () => { window.big = await insitu.collection('big'); }"


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


def in_page(place: disk.Disk, first: str, act: str) -> tuple[int, int]:
    """What the page's process and the browser's own need for `act`, in a page that has only done `first`."""
    page = place.open()
    page.evaluate(first)
    resident(page)  # settles
    (own,) = of_kind(place.browser, "browser")
    watched = Watched([busiest(place.browser), own])
    page.evaluate(act)
    (_, of_page), (_, of_browser) = watched.above()
    page.close()
    return of_page, of_browser


# --- CPython -------------------------------------------------------------------------------------------------------


def in_python(act: str, folder: Path, file: Path) -> int:
    """What this process needs. Run in a process of its own."""
    from insitu import open_collection

    notes = open_collection(folder, model="minilm-l6")
    if notes.stats()["documents"]:
        notes.search("warm", k=1)
    watched = Watched([os.getpid()])
    if act == "import":
        notes.import_file(file)
    else:
        notes.export_file(folder / "copy.insitu")
    return watched.above()[0][1]


def child(act: str, folder: Path, file: Path) -> int:
    command = [sys.executable, __file__, act, str(folder), str(file)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


# -------------------------------------------------------------------------------------------------------------------


def document(number: int) -> dict[str, Any]:
    return {"id": f"note {number}", "text": f"the text of note {number}", "fields": {"date": number}}


def measure(playwright: Playwright, report: Report, web: Path, model_dir: Path) -> None:
    """Of `COUNT` documents of one passage, with random codes."""
    with disk.opened(playwright, web, model_dir) as place:
        file, space = place.site / "big.insitu", read_lock(model_dir).space(DIM).name
        codes = np.random.default_rng(1).integers(-127, 128, (COUNT, DIM), np.int8)
        write_export(file, space, codes, np.full(COUNT, 1 / 127 / 8, np.float32), {"date": "number"}, document)
        note = f"{COUNT:,} documents, a file of {file.stat().st_size / 1e6:.1f} MB"
        for act, first, script in (("import", FETCH, IMPORT), ("export", HOLD, EXPORT)):
            name = f"memory of an {act}, peak above what was held"
            of_page, of_browser = in_page(place, first, script)
            report.add(name, "page's process", None, "MB", [of_page / 1e6], note)
            report.add(name, "browser's own process", None, "MB", [of_browser / 1e6])
            in_cpython = child(act, place.site.parent / "collection", file)
            report.add(name, "CPython", None, "MB", [in_cpython / 1e6])


if __name__ == "__main__":
    print(in_python(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
