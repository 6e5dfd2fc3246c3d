"""A folder served on 127.0.0.1 as `insitu serve` does, with a record of what was asked and the faults of a test."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from insitu.serve import BLOCK, content_type, make_server, parse_range

EMPTY = b"<!doctype html><link rel=icon href=data:,><title>test</title>"
Fault = Callable[[Any], bool | None]
"""Called with the request handler; True if it has answered."""


@dataclass
class Served:
    """`isolated`: with the headers of cross-origin isolation. `missing`: paths that answer 404. `instead`: other bodies
    of paths. `script` runs in the worker before all else. `asked`: the paths of all requests so far.

    Files whose path holds `watched` are counted: `parts` are the Range headers asked of them, '' for a whole file, `sent`
    the bytes of their bodies, `gone` the clients that went away before they had all. `fault` happens to each request for
    one, or to the next `times` of them; `pace` is how many seconds to wait after each 256 kB.
    """

    folder: Path
    isolated: bool = True
    missing: set[str] = field(default_factory=set)
    instead: dict[str, bytes] = field(default_factory=dict)
    script: bytes = b""
    asked: list[str] = field(default_factory=list)
    watched: str = "/rows."
    parts: list[str] = field(default_factory=list)
    sent: int = 0
    gone: int = 0
    fault: Fault | None = None
    times: int | None = None
    pace: float = 0
    at_once: int = 0
    most_at_once: int = 0
    address: str = ""
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[Served]:
        server = make_server(self.folder, 0)
        server.RequestHandlerClass = _faulty(server.RequestHandlerClass, self)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def ranges(self) -> list[tuple[int, int]]:
        """First and last byte of each range asked of watched files."""
        found = [part.removeprefix("bytes=").split("-") for part in self.parts if part]
        return [(int(first), int(last)) for first, last in found]


# --- faults --------------------------------------------------------------------------------------------------------


def without_ranges(handler: Any) -> None:
    """As a server does that knows no ranges."""
    del handler.headers["Range"]


def refuse(status: int) -> Fault:
    def act(handler: Any) -> bool:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return act


def cut_after(count: int, linger: float = 0.2) -> Fault:
    """The connection breaks after so many bytes of the body, which the page has `linger` seconds to read."""

    def act(handler: Any) -> None:
        handler.left, handler.linger = count, linger

    return act


def cut_at(*places: int) -> Fault:
    """The connection breaks before a byte of the file: in the first request before the first of them, and so on."""
    left = list(places)

    def act(handler: Any) -> None:
        if left:
            start = handler.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            handler.left = max(0, left.pop(0) - int(start or 0))

    return act


def wait_for(event: threading.Event) -> Fault:
    """No byte comes before the event."""

    def act(handler: Any) -> None:
        event.wait(60)

    return act


def both(*faults: Fault) -> Fault:
    return lambda handler: any(fault(handler) for fault in faults)


# --- answers -------------------------------------------------------------------------------------------------------


class _Body:
    """Counts what is sent and breaks off when the handler says so."""

    def __init__(self, handler: Any, served: Served) -> None:
        self.handler, self.served, self.file = handler, served, handler.wfile

    def write(self, data: bytes) -> int:
        left = self.handler.left
        part = data if left is None else data[:left]
        try:
            self.file.write(part)
        except ConnectionError:
            with self.served.lock:
                self.served.gone += 1
            raise
        with self.served.lock:
            self.served.sent += len(part)
        if left is not None:
            self.handler.left = left - len(part)
            if self.handler.left <= 0:
                self.file.flush()
                time.sleep(self.handler.linger)  # what was not yet read is lost with the connection
                self.handler.connection.shutdown(socket.SHUT_RDWR)
                raise BrokenPipeError
        time.sleep(self.served.pace)
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _faulty(base: Any, served: Served) -> Any:
    # mypy takes no class for a base that it learns at run time.
    class Handler(base):  # type: ignore[misc]
        site = served  # for faults
        wfile: BinaryIO | _Body
        left: int | None = None  # bytes until the connection breaks
        linger = 0.2
        counting = False

        def do_GET(self) -> None:  # noqa: N802 (the name that http.server asks for)
            path = self.path.partition("?")[0]
            served.asked.append(path)
            if served.watched in path:
                self.answer_watched(path)
            else:
                self.answer(path)

        def answer_watched(self, path: str) -> None:
            with served.lock:
                served.parts.append(self.headers.get("Range", ""))
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
                fault = served.fault if served.times != 0 else None
                if served.times:
                    served.times -= 1
            plain = self.wfile
            try:
                if not (fault and fault(self)):
                    self.counting = True
                    self.answer(path)
            except ConnectionError:
                self.close_connection = True
            finally:
                self.counting, self.left, self.wfile = False, None, plain
                with served.lock:
                    served.at_once -= 1

        def answer(self, path: str) -> None:
            if path == "/empty.html":
                self.body("text/html", EMPTY)
            elif path == "/favicon.ico":
                self.body("image/x-icon", b"")
            elif path in served.missing:
                self.body("text/plain", b"not here", 404)
            elif path in served.instead:
                self.body(content_type(Path(path)), served.instead[path])
            elif served.script and path == "/insitu/worker.js":
                self.body("text/javascript", served.script + (served.folder / path[1:]).read_bytes())
            else:
                super().do_GET()

        def body(self, kind: str, content: bytes, status: int = 200) -> None:
            """`content`, or the part of it that is asked for."""
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            part = None
            if status == 200 and self.headers.get("If-Range", tag) == tag:
                part = parse_range(self.headers.get("Range", ""), len(content))
            start, end = part or (0, len(content))
            if part:
                status = 206 if start < end else 416
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(max(0, end - start)))
            self.send_header("ETag", tag)
            self.send_header("Cache-Control", "no-store")
            if part:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            self.end_headers()
            while start < end:
                self.wfile.write(content[start : min(end, start + BLOCK)])
                start += BLOCK

        def send_header(self, name: str, value: str) -> None:
            if served.isolated or name not in ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
                super().send_header(name, value)

        def end_headers(self) -> None:
            super().end_headers()
            if self.counting:
                self.wfile = _Body(self, served)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # the page was closed meanwhile
                super().handle()

    return Handler
