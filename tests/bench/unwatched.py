"""A Chromium that no debugger watches, for what a page holds.

A debugger has the page's process keep a copy of all that was fetched, as base64: 15 MB of a page with EmbeddingGemma.
So the page tells of itself by requests to its server.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from browser import ARGUMENTS, Site
from processes import held

PATIENCE_S = 120
# What is freed is given back to the system as late as 17 seconds after.
GIVEN_BACK_S = 25


@dataclass(frozen=True)
class Held:
    """Bytes of the page's process: the resident set, and what of it no other process has."""

    resident: int
    private: int


@contextmanager
def opened(chromium: str, url: str, profile: Path) -> Iterator[int]:
    """The process of a Chromium that shows one page. `chromium`: its path."""
    command = [chromium, *ARGUMENTS, "--headless=new", f"--user-data-dir={profile}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def of_page(browser: int) -> Held:
    """The largest process below the browser's that runs pages, without those of the browser's own surface."""
    found = [process for process in _below(browser) if _runs_pages(process)]
    page = max(found, key=lambda process: held(process, "VmRSS"))
    private = sum(held(page, name, "smaps_rollup") for name in ("Private_Clean", "Private_Dirty"))
    return Held(held(page, "VmRSS"), private)


def blank(chromium: str, site: Site) -> Held:
    with _profile() as profile, opened(chromium, f"{site.base}/blank.html", profile) as browser:
        time.sleep(GIVEN_BACK_S)
        return of_page(browser)


@dataclass(frozen=True)
class Visit:
    """A visit that ends with one answer: `at_once`, and `later`, when all is loaded and what was freed is given back.

    `counted`: bytes by `performance.measureUserAgentSpecificMemory()`.
    """

    at_once: Held
    later: Held
    counted: int


def visits(chromium: str, site: Site, options: dict[str, Any], question: str) -> tuple[Visit, Visit]:
    """A first visit with a fresh profile, then a second one with the same."""
    url = f"{site.base}/visit.html#{quote(json.dumps([options, question, True]))}"
    with _profile() as profile:
        first, second = (_visit(chromium, site, url, profile) for _ in range(2))
        return first, second


def _visit(chromium: str, site: Site, url: str, profile: Path) -> Visit:
    site.told.clear()
    with opened(chromium, url, profile) as browser:
        _told(site, "answered")
        at_once = of_page(browser)
        _told(site, "settled")
        time.sleep(GIVEN_BACK_S)
        return Visit(at_once, of_page(browser), int(_told(site, "counted")))


def _told(site: Site, name: str) -> Any:
    """What the page told under this name, once it has."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if "error" in site.told:
            raise RuntimeError(f"The page failed: {site.told['error']}")
        if name in site.told:
            return site.told[name]
        time.sleep(0.005)
    raise RuntimeError(f"The page told nothing of {name!r} within {PATIENCE_S} s.")


@contextmanager
def _profile() -> Iterator[Path]:
    # A process of the browser may write to its profile for a moment after the browser has ended.
    with tempfile.TemporaryDirectory(prefix="insitu-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _below(process: int) -> list[int]:
    children = [int(child) for task in _tasks(process) for child in (task / "children").read_text().split()]
    return children + [other for child in children for other in _below(child)]


def _tasks(process: int) -> list[Path]:
    return list(Path(f"/proc/{process}/task").iterdir())


def _runs_pages(process: int) -> bool:
    command = Path(f"/proc/{process}/cmdline").read_bytes()
    return b"--type=renderer" in command and b"--top-chrome-webui" not in command
