"""A local server and Chromium, for everything that is measured in a page."""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from playwright.sync_api import Page, Playwright

from insitu.serve import parse_range

# Chromium speaks to nobody but our own server while it is measured.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
BLANK = b"<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>bench</title>"
# A page as a site has it: its HTML names its script and the module behind it. What to open is in its address.
VISIT = b"""<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>visit</title>
<link rel=modulepreload href=/insitu/insitu.js>
<script type=module>
import "/bench/ours.js";
const [options, question, tells] = JSON.parse(decodeURIComponent(location.hash.slice(1)));
globalThis.result = bench.first(options, question);
if (tells) bench.tell(globalThis.result);
</script>"""
PAGE_TIMEOUT_MS = 600_000
SET_UP = Path(__file__).resolve().parents[2] / ".build/chromium"


class Site:
    """Folders under one cross-origin isolated origin on 127.0.0.1. `base` is its URL; `served` the files asked for,
    `parts` the bytes sent of files of which a part was asked for, `told` what pages told of themselves by name."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.served: list[Path] = []
        self.parts: Counter[Path] = Counter()
        self.told: dict[str, Any] = {}
        self.folders = dict(folders)
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                if path == "/told":
                    site.told |= json.loads(unquote(query))
                body, kind, part = site.read(path, self.headers.get("Range", ""))
                self.send_response(404 if body is None else 206 if part else 200)
                self.send_header("Content-Type", kind)
                if part:
                    self.send_header("Content-Range", part)
                self.send_header("Content-Length", str(len(body or b"")))
                self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
                # As a static host serves: kept by the browser for a while, so that a second visit reads its cache.
                self.send_header("Cache-Control", "max-age=600")
                self.end_headers()
                if self.command == "GET":
                    with suppress(ConnectionError):  # a page may close before it has read everything
                        self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815 (the name that http.server asks for)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def read(self, path: str, wanted: str) -> tuple[bytes | None, str, str]:
        """The file behind a URL path, or the part of it that `wanted` (a Range header) names; its MIME type; and for a
        part, which one it is (Content-Range). None if there is none."""
        if path.endswith("/blank.html"):
            return BLANK, "text/html", ""
        if path == "/told":
            return b"", "text/plain", ""
        if path.endswith("/visit.html"):
            return VISIT, "text/html", ""
        prefix, _, rest = path.lstrip("/").partition("/")
        folder = self.folders.get(prefix)
        file = folder / rest if folder and ".." not in rest else None
        if file is None or not file.is_file():
            return None, "text/plain", ""
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        size = file.stat().st_size
        if part := parse_range(wanted, size):
            self.parts[file] += part[1] - part[0]
            with file.open("rb") as opened:
                opened.seek(part[0])
                return opened.read(part[1] - part[0]), kind, f"bytes {part[0]}-{part[1] - 1}/{size}"
        self.served.append(file)
        return file.read_bytes(), kind, ""

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def executable(playwright: Playwright) -> str:
    """The Chromium to measure: INSITU_CHROMIUM, the one that was set up, the system's, else Playwright's own."""
    known = SET_UP.read_text().strip() if SET_UP.exists() else None
    found = os.environ.get("INSITU_CHROMIUM") or known or shutil.which("chromium")
    return found or playwright.chromium.executable_path


@contextmanager
def new_page(playwright: Playwright, url: str) -> Iterator[Page]:
    """One page in a Chromium of its own, with `url` open and nothing kept afterwards."""
    browser = playwright.chromium.launch(executable_path=executable(playwright), args=list(ARGUMENTS))
    try:
        page = browser.new_page()
        page.set_default_timeout(PAGE_TIMEOUT_MS)
        page.goto(url)
        if not page.evaluate("crossOriginIsolated"):
            raise RuntimeError(f"{url} is not cross-origin isolated: two threads cannot be measured there.")
        yield page
    finally:
        browser.close()
