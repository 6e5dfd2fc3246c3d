"""A folder served on 127.0.0.1, with the faults that a test asks for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}


@dataclass
class Served:
    """`isolated`: with the headers of cross-origin isolation. `missing`: paths that answer 404. `instead`: other bodies
    of paths. `asked`: the paths of all requests so far."""

    folder: Path
    isolated: bool = True
    missing: set[str] = field(default_factory=set)
    instead: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @contextmanager
    def running(self) -> Iterator[Served]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}/"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, served: Served, *args: object) -> None:
        self.served = served
        super().__init__(*args, directory=str(served.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.served.asked.append(path)
        if path == "/favicon.ico":
            self._answer(b"", "image/x-icon")
        elif path == "/empty.html":
            self._answer(b"<!doctype html><link rel=icon href=data:,><title>test</title>", "text/html")
        elif path in self.served.missing:
            self._answer(b"not here", "text/plain", 404)
        elif path in self.served.instead:
            self._answer(self.served.instead[path], self.guess_type(path))
        else:
            super().do_GET()

    def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        if self.served.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the page was closed meanwhile
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass
