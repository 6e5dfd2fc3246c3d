"""One file served on 127.0.0.1 over a network that fails: connections are cut, ranges refused, the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from insitu.serve import parse_range


@dataclass
class Lossy:
    """`cuts`: each request takes the first of them and ends before that byte of the file, as a broken line does.

    `then`: the file from the second request on, if it changes. `pages`: other files, by their path. `ranges`: whether parts can be asked for. `pace`: seconds to wait after each 256 kB. `asked`: the Range header of each
    request so far, empty if it had none. `gone`: how many clients went away before they had all.
    """

    body: bytes
    then: bytes | None = None
    pages: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    pace: float = 0
    asked: list[str] = field(default_factory=list)
    gone: int = 0
    address: str = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'

    @contextmanager
    def running(self) -> Iterator[Lossy]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}/"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    block = 1 << 18

    def __init__(self, lossy: Lossy, *args: object) -> None:
        self.lossy = lossy
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        lossy, body = self.lossy, self.lossy.body
        if self.path != "/file":
            page = lossy.pages.get(self.path, b"<!doctype html><link rel=icon href=data:,>")
            self._head(200, "text/javascript" if self.path.endswith(".js") else "text/html", len(page))
            self.wfile.write(page)
            return
        asked = self.headers.get("Range", "")
        lossy.asked.append(asked)
        part = None
        if lossy.ranges and self.headers.get("If-Range", lossy.etag) == lossy.etag:
            part = parse_range(asked, len(body))
        start, end = part or (0, len(body))
        self._head(206 if part else 200, "application/octet-stream", end - start, start if part else None)
        if lossy.then is not None:
            lossy.body = lossy.then
        cut = lossy.cuts.pop(0) if lossy.cuts else end
        stop = min(end, max(start, cut))
        with contextlib.suppress(ConnectionError):
            while start < stop:
                start += self.wfile.write(body[start : min(stop, start + self.block)])
                time.sleep(lossy.pace)
        if start < stop:
            lossy.gone += 1
        if start < end:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _head(self, status: int, kind: str, length: int, start: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.lossy.etag)
        self.send_header("Cache-Control", "no-store")
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{len(self.lossy.body)}")
        self.end_headers()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass
