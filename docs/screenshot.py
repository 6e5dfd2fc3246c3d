"""Takes docs/screenshot.png of the search page, while `build.py demo` runs: python docs/screenshot.py ADDRESS."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

QUESTION = "my host cannot set headers, will it still work?"


def main(address: str) -> None:
    with sync_playwright() as playwright:
        path = os.environ.get("INSITU_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-quic"])
        page = browser.new_page(viewport={"width": 900, "height": 620})
        page.goto(f"{address.rstrip('/')}/insitu/search.html")
        box, status = page.get_by_role("searchbox"), page.get_by_role("status")
        # The first answer waits for what is still loading; the picture shows what a question takes after that.
        box.fill("warm up")
        expect(status).to_contain_text(" ms", timeout=120_000)
        page.wait_for_timeout(2000)
        box.fill(QUESTION)
        page.wait_for_timeout(2000)
        expect(status).to_contain_text(" ms")
        page.screenshot(path=Path(__file__).parent / "screenshot.png")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/screenshot.py ADDRESS")
    main(sys.argv[1])
