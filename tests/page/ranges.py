"""`insitu serve` with a record of what was asked of the token rows, and with the faults that a test asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from insitu.serve import make_server

EMPTY = b"<!doctype html><link rel=icon href=data:,><title>test</title>"
# Nothing is fetched ahead where the visitor saves data.
QUIET = b"Object.defineProperty(NetworkInformation.prototype, 'saveData', { get: () => true });"
# Waits last a hundredth.
HURRY = b"const later = setTimeout; self.setTimeout = (act, ms) => later(act, ms / 100);"
Fault = Callable[[Any], bool | None]
"""Called with the request handler; True if it has answered."""


@dataclass
class Ranged:
    """`asked`: the ranges asked of files of token rows, None for a whole file. `paths`: all paths asked. `sent`: bytes of
    bodies of the rows. `script` runs in the worker before all else. `fault` happens to each request for rows, or to the next `times` of them."""

    folder: Path
    asked: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sent: int = 0
    fault: Fault | None = None
    times: int | None = None
    at_once: int = 0
    most_at_once: int = 0
    script: bytes = QUIET
    address: str = ""
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[Ranged]:
        server = make_server(self.folder, 0)
        server.RequestHandlerClass = _faulty(server.RequestHandlerClass, self)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def ranges(self) -> list[tuple[int, int]]:
        """First and last byte of each range asked of rows."""
        found = [asked.removeprefix("bytes=").split("-") for asked in self.asked if asked]
        return [(int(first), int(last)) for first, last in found]


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


def cut_after(count: int) -> Fault:
    """The connection breaks after so many bytes of the body."""

    def act(handler: Any) -> None:
        handler.left = count

    return act


def wait_for(event: threading.Event) -> Fault:
    """No byte comes before the event."""

    def act(handler: Any) -> None:
        event.wait(60)

    return act


def instead(body: bytes) -> Fault:
    """The file was replaced by another one."""

    def act(handler: Any) -> bool:
        first, last = handler.headers["Range"].removeprefix("bytes=").split("-")
        part = body[int(first) : int(last) + 1]
        handler.send_response(206 if part else 416)
        handler.send_header("Content-Length", str(len(part)))
        if part:
            handler.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}")
        handler.end_headers()
        handler.wfile.write(part)
        return True

    return act


class _Body:
    """Counts what is sent and breaks off when the handler says so."""

    def __init__(self, file: BinaryIO, served: Ranged, left: int | None) -> None:
        self.file, self.served, self.left = file, served, left

    def write(self, data: bytes) -> int:
        part = data if self.left is None else data[: self.left]
        with self.served.lock:
            self.served.sent += len(part)
        self.file.write(part)
        if self.left is not None:
            self.left -= len(part)
            if self.left <= 0:
                self.file.flush()
                time.sleep(0.2)  # what was not yet read is lost with the connection
                raise ConnectionResetError
        return len(data)

    def flush(self) -> None:
        self.file.flush()

    @property
    def closed(self) -> bool:
        return self.file.closed

    def close(self) -> None:
        self.file.close()


def _faulty(base: Any, served: Ranged) -> Any:
    class Handler(base):  # type: ignore[misc]
        wfile: Any
        left: int | None = None

        def do_GET(self) -> None:  # noqa: N802 (the name that http.server asks for)
            path = self.path.partition("?")[0]
            served.paths.append(path)
            if path == "/empty.html":
                self.body("text/html", EMPTY)
            elif path == "/insitu/worker.js":
                self.body("text/javascript", served.script + (served.folder / path[1:]).read_bytes())
            elif "/rows." in path:
                self.rows()
            else:
                super().do_GET()

        def body(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def rows(self) -> None:
            with served.lock:
                served.asked.append(self.headers.get("Range"))
                served.at_once += 1
                served.most_at_once = max(served.most_at_once, served.at_once)
                fault = served.fault if served.times != 0 else None
                if served.times:
                    served.times -= 1
            plain = self.wfile
            try:
                if not (fault and fault(self)):
                    self.counting = True
                    super().do_GET()
            except ConnectionError:
                self.close_connection = True
            finally:
                self.counting, self.left, self.wfile = False, None, plain
                with served.lock:
                    served.at_once -= 1

        counting = False

        def end_headers(self) -> None:
            super().end_headers()
            if self.counting:
                self.wfile = _Body(self.wfile, served, self.left)

    return Handler
