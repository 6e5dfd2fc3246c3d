"""Killing the processes that run pages, as a crash does."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page

from page.folder import Served

Stamps = dict[str, str]
"""By id, which commit each document is of."""


def kill_pages(browser: Browser) -> None:
    """SIGKILL to every process of this browser that runs a page."""
    session = browser.new_browser_cdp_session()
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)
    session.detach()


def blank(browser: Browser, served: Served) -> Page:
    """A new page. The browser keeps a process ready for the next one; if that was killed too, the first page in it is
    dead at once."""
    for _ in range(5):
        with contextlib.suppress(Error):
            page = browser.contexts[0].new_page()
            page.goto(served.address + "empty.html")
            return page
    pytest.fail("The browser opens no page any more.")


def log(done: list[str], message: ConsoleMessage) -> None:
    done.append(message.text)
