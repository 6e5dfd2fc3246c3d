"""A static server for this machine, with what the search page needs of a host.

Types of .mjs, .wasm and .bin, single byte ranges, cross-origin isolation (so the model may use threads), ETags, and
files named by their content cached for ever. For trying a site out, not for the open network.
"""

from __future__ import annotations

import errno
import mimetypes
import os
import re
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from insitu.errors import InvalidArgument, PortInUse

TYPES = {
    ".bin": "application/octet-stream",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".whl": "application/octet-stream",
    ".zip": "application/zip",
}
# insitu's own files that never change under their name: 16 digits of their hash are in it.
_FOR_EVER = re.compile(r"/index/[a-z]+-[0-9a-f]{16}\.(bin|json)$|/model/[^/]+-[0-9a-f]{16}/[^/]+$")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
BLOCK = 1 << 18


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes, and the second would wait for the acknowledgement of the first: 40 ms.
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self._resolve()
        if path is None:
            self._fail(HTTPStatus.NOT_FOUND)
        elif path.is_dir():
            self._answer_folder()
        else:
            try:
                file = path.open("rb")
            except OSError:
                self._fail(HTTPStatus.NOT_FOUND)
                return
            with file:
                self._send(path, file, body=body)

    def _answer_folder(self) -> None:
        """With a slash the index.html was resolved already; without one the browser must ask again with it."""
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        # One leading slash: "//host/" would lead to another server.
        self.send_header("Location", "/" + quote(unquote(urlsplit(self.path).path).lstrip("/")) + "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _resolve(self) -> Path | None:
        """The file of a request, None if it is none or lies outside the served folder."""
        name = unquote(urlsplit(self.path).path)
        if "\0" in name or "\\" in name:
            return None
        path = (self.server.folder / name.lstrip("/")).resolve()
        if not path.is_relative_to(self.server.folder):
            return None
        if name.endswith("/"):
            path /= "index.html"
            return path if path.is_file() else None
        return path if path.is_file() or path.is_dir() else None

    def _send(self, path: Path, file: BinaryIO, *, body: bool) -> None:
        stat = os.fstat(file.fileno())
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        if tag in (part.strip().removeprefix("W/") for part in self.headers.get("If-None-Match", "").split(",")):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._send_common(path, tag)
            self.end_headers()
            return
        part = None
        if self.headers.get("If-Range", tag) == tag:
            part = parse_range(self.headers.get("Range", ""), stat.st_size)
        start, end = part or (0, stat.st_size)
        if part and start >= end:
            self._fail(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{stat.st_size}")
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
        self.send_header("Content-Type", content_type(path))
        self.send_header("Content-Length", str(end - start))
        self.send_header("Last-Modified", formatdate(stat.st_mtime, usegmt=True))
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{stat.st_size}")
        self._send_common(path, tag)
        self.end_headers()
        if body:
            self._copy(file, start, end)

    def _send_common(self, path: Path, tag: str) -> None:
        for_ever = _FOR_EVER.search(path.as_posix())
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", "public, max-age=31536000, immutable" if for_ever else "no-cache")
        self.send_header("Accept-Ranges", "bytes")

    def _copy(self, file: BinaryIO, start: int, end: int) -> None:
        file.seek(start)
        try:
            while start < end:
                block = file.read(min(BLOCK, end - start))
                if not block:  # it was cut meanwhile: what was promised cannot be kept
                    self.close_connection = True
                    return
                self.wfile.write(block)
                start += len(block)
        except (BrokenPipeError, ConnectionResetError):  # the browser has gone
            self.close_connection = True

    def _fail(self, status: HTTPStatus, content_range: str | None = None) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def end_headers(self) -> None:
        """Cross-origin isolation, which lets a page share memory between threads, needs these on every answer."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal belongs to the address."""


class Server(ThreadingHTTPServer):
    """Serves `folder` (resolved)."""

    daemon_threads = True
    request_queue_size = 64
    # Without this a port whose last server has just ended counts as busy; on Windows it would let two share one.
    allow_reuse_address = os.name != "nt"

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        super().__init__(("127.0.0.1", port), _Handler)


def make_server(folder: Path, port: int) -> Server:
    """A server on 127.0.0.1; `serve_forever()` runs it. `port` 0 takes a free one.

    Raises `InvalidArgument` for what is no folder or no port, `PortInUse`.
    """
    if not folder.is_dir():
        raise InvalidArgument(f"{folder} is no folder. Name the folder to serve.")
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"port {port}: choose one from 1024 to 65535, or 0 for a free one.")
    try:
        return Server(folder.resolve(), port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} is in use by another program. Choose another (--port {port + 1}), or 0 for a free one."
            ) from error
        if error.errno == errno.EACCES:
            raise InvalidArgument(f"port {port} is for the administrator only. Choose one above 1023.") from error
        raise


def content_type(path: Path) -> str:
    """The media type of a file. The module `mimetypes` is asked last: it depends on the machine."""
    suffix = path.suffix.lower()
    return TYPES.get(suffix) or mimetypes.types_map.get(suffix) or "application/octet-stream"


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """[start, end) of a file of `size` bytes; start >= end if it cannot be satisfied.

    None for what is no single byte range: the whole file is the right answer then (RFC 9110, section 14.2).
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or header.strip() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size if int(last) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
