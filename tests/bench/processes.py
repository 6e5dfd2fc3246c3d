"""What Chromium's processes hold, as the kernel counts it."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, Page

# Seconds in which a page's memory must not have moved by 1 MB: some of what is freed is given back as late as 17
# seconds after, on a busy machine later. And seconds after which it is taken as it is.
STEADY_S, MOST_S = 25, 90


def of_kind(browser: Browser, kind: str) -> list[int]:
    """`renderer`: those that run pages, without the browser's own pages, which take 150 MB; `browser`: its own."""
    session = browser.new_browser_cdp_session()
    found = [
        process["id"] for process in session.send("SystemInfo.getProcessInfo")["processInfo"] if process["type"] == kind
    ]
    session.detach()
    return [process for process in found if b"--top-chrome-webui" not in _file(process, "cmdline")]


def busiest(browser: Browser) -> int:
    """The page's process: the largest of those that run pages."""
    return max(of_kind(browser, "renderer"), key=lambda process: held(process, "VmRSS"))


def held(process: int, name: str, file: str = "status") -> int:
    """Bytes of a line of /proc/PID/`file`: VmRSS now, VmHWM at most; of `smaps_rollup` Private_Dirty and others."""
    lines = _file(process, file).decode().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def collect(page: Page) -> None:
    """Garbage goes, of the page and of its workers, whose heaps are their own."""
    session = page.context.new_cdp_session(page)
    workers: list[str] = []
    session.on("Target.attachedToTarget", lambda event: workers.append(event["sessionId"]))
    session.send("Target.setAutoAttach", {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False})
    session.send("HeapProfiler.collectGarbage")
    for worker in workers:
        message = json.dumps({"id": 1, "method": "HeapProfiler.collectGarbage"})
        session.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
    session.detach()


def resident(page: Page, steady: int = STEADY_S) -> int:
    """Bytes of the page's process that lie in memory, what WASM holds included, once garbage has been given back."""
    assert page.context.browser is not None
    sizes: list[int] = []
    while len(sizes) < MOST_S:
        collect(page)
        page.wait_for_timeout(1000)
        sizes.append(held(busiest(page.context.browser), "VmRSS"))
        last = sizes[-steady:]
        if len(last) == steady and max(last) - min(last) < 1 << 20:
            break
    return sizes[-1]


def _file(process: int, name: str) -> bytes:
    return Path(f"/proc/{process}/{name}").read_bytes()
