"""What Chromium's processes hold, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser


def of_kind(browser: Browser, kind: str) -> list[int]:
    """`renderer`: those that run pages, without the browser's own pages, which take 150 MB; `browser`: its own."""
    session = browser.new_browser_cdp_session()
    found = [
        process["id"] for process in session.send("SystemInfo.getProcessInfo")["processInfo"] if process["type"] == kind
    ]
    session.detach()
    return [process for process in found if b"--top-chrome-webui" not in _file(process, "cmdline")]


def held(process: int, name: str, file: str = "status") -> int:
    """Bytes of a line of /proc/PID/`file`: VmRSS now, VmHWM at most; of `smaps_rollup` Private_Dirty and others."""
    lines = _file(process, file).decode().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _file(process: int, name: str) -> bytes:
    return Path(f"/proc/{process}/{name}").read_bytes()
