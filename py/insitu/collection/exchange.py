"""Export and import: one file, the same from the page and from CPython. See docs/collections.md, "The file".

A line of JSON (the header), then for each segment a line of JSON and its vectors, then a line with the SHA-256 of all
bytes before it. An import reads and checks the whole file before it replaces anything: what it has read is kept beside
what is there (`Store.stage`). Neither an export nor an import holds more than a segment in memory, but for the ids.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

from insitu.collection.documents import check_documents, check_fields
from insitu.collection.store import RESERVED, Change, Meta, Store
from insitu.embedder import Embedder, Progress
from insitu.errors import (
    CollectionCorrupt,
    CollectionVersion,
    ExportCorrupt,
    InsituError,
    InvalidArgument,
    SpaceMismatch,
    WriteFailed,
)

FORMAT = "insitu-collection"
VERSION = 1
PIECE = 1 << 20
# A line of a segment holds its texts. One that is longer is none of ours.
LONGEST_LINE = 1 << 30

Read = Callable[[int, int], Awaitable[bytes]]
"""The bytes from a position on, so many of them or what there is."""


async def export_collection(store: Store, on_progress: Progress | None = None) -> AsyncIterator[bytes]:
    """The pieces of the file, in order. `on_progress`: (documents done, in all).

    Raises `CollectionCorrupt` if a part is damaged, `WriteFailed` if somebody wrote meanwhile (in the page they wait).
    """
    async with store.writing():
        meta = await store.meta()
        if meta is None:
            raise CollectionCorrupt("The collection is gone. Import an export.")
        # Not by `news`, which the opened collection takes: it would miss what was told here.
        alive = set((await store.columns([], array("I"))).numbers)
        sha = hashlib.sha256()

        def told(piece: bytes) -> bytes:
            sha.update(piece)
            return piece

        about = {"space": meta.space, "dim": meta.dim, "full": meta.full, "fields": meta.fields}
        yield told(_line({"format": FORMAT, "version": VERSION, **about, "documents": meta.documents}))
        done = 0
        for first, _ in meta.segments:
            shard, numbers = await store.segment(first)
            kept = [row for row, number in enumerate(numbers) if number in alive]
            if not kept:
                continue
            runs = [(number, len(list(run))) for number, run in groupby(numbers[row] for row in kept)]
            stored = await store.texts([number for number, _ in runs])
            full = await store.full([(n, i) for n, rows in runs for i in range(rows)]) if meta.full else b""
            if full is None or None in stored or (await store.meta() or meta).revision != meta.revision:
                raise WriteFailed("Somebody wrote to the collection while it was exported. Export it again.")
            documents = [{**asdict(s), "rows": rows} for s, (_, rows) in zip(stored, runs, strict=True) if s]
            yield told(_line({"documents": documents, "rows": len(kept)}))
            yield told(_pick(shard, len(numbers), kept, meta.dim))
            if full:
                yield told(full)
            done += len(documents)
            if on_progress is not None:
                on_progress(done, meta.documents)
        yield _line({"end": True, "sha256": sha.hexdigest()})


async def import_collection(
    embedder: Embedder, store: Store, read: Read, size: int, on_progress: Progress | None = None
) -> int:
    """Put the content of an export in place of what `store` holds, in one transaction; how many documents.

    Raises, with nothing changed, `ExportCorrupt`, `CollectionVersion`, `SpaceMismatch`, `DiskFull`.
    """
    file = _File(read, size)
    header = await file.line()
    if header.get("format") != FORMAT:
        raise ExportCorrupt(f"The file is no export of a collection: it does not begin with {FORMAT!r}.")
    if header.get("version") != VERSION:
        raise CollectionVersion(
            f"The export has version {header.get('version')!r}; this release reads {VERSION}. Use its own."
        )
    try:
        dim, full = int(header["dim"]), int(header["full"])
        space = embedder.lock.space(min(dim, embedder.lock.full_dim)).name
        if header["space"] != space or full not in (0, embedder.lock.full_dim):
            raise SpaceMismatch(
                f"The export holds vectors of the space {header['space']!r}, but the open model makes {space!r}. Open "
                "the model that made it."
            )
        fields = check_fields(header["fields"])
        old = await store.meta()
        async with store.staging():
            await store.stage(Meta(space, dim, full, fields, next=old.next + RESERVED if old else 1))
            try:
                count = await _read(file, header, fields, dim, full, space, store, on_progress)
                async with store.writing():
                    await store.swap(False)
            except BaseException:
                await store.unstage()
                raise
            return count
    except (KeyError, TypeError, ValueError, InvalidArgument) as error:
        raise _altered() from error


async def _read(
    file: _File,
    header: dict[str, Any],
    fields: dict[str, str],
    dim: int,
    full: int,
    space: str,
    store: Store,
    on_progress: Progress | None,
) -> int:
    """All of the file into the content that is made, checked; how many documents."""
    ids: set[str] = set()
    while "end" not in (block := await file.line()):
        change, codes, full_codes = await _batch(file, block, fields, ids, dim, full)
        await store.commit_next(replace(change, space=space, full=full), codes, full_codes)
        if on_progress is not None:
            on_progress(len(ids), int(header["documents"]))
    if block["sha256"] != file.sum_before_line or file.left() or len(ids) != header["documents"]:
        raise _altered()
    return len(ids)


async def _batch(
    file: _File, block: dict[str, Any], fields: dict[str, str], ids: set[str], dim: int, full: int
) -> tuple[Change, bytes, bytes]:
    rows = 0
    put: list[dict[str, Any]] = []
    try:
        parts = [{key: item[key] for key in ("id", "title", "text", "fields")} for item in block["documents"]]
        documents = check_documents(parts, fields)
    except InsituError as error:
        raise _altered() from error
    for document, item in zip(documents, block["documents"], strict=True):
        cuts, count = item["cuts"], item["rows"]
        if document.id in ids or count < 1 or len(cuts) != 2 * count or not all(isinstance(cut, int) for cut in cuts):
            raise _altered()
        ids.add(document.id)
        rows += count
        size = document.size + count * (full and full + 4)
        put.append({**asdict(document), "hash": str(item["hash"]), "rows": count, "size": size, "cuts": cuts})
    if rows != block["rows"]:
        raise _altered()
    return Change(put), await file.exactly(rows * (dim + 4)), await file.exactly(rows * (full + 4)) if full else b""


class _File:
    """Reads lines and bytes, one after another, and sums up what it has given."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._at = 0  # of the next piece to read
        self._held = b""
        self._sha = hashlib.sha256()
        self.sum_before_line = ""

    def left(self) -> int:
        return self._size - self._at + len(self._held)

    async def line(self) -> dict[str, Any]:
        searched = 0
        while (end := self._held.find(b"\n", searched)) < 0:
            searched = len(self._held)
            if searched > LONGEST_LINE or not await self._more(PIECE):
                raise _altered()
        self.sum_before_line = self._sha.hexdigest()
        try:
            found = json.loads(self._take(end + 1))
        except ValueError as error:
            raise _altered() from error
        if not isinstance(found, dict):
            raise _altered()
        return found

    async def exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            if not await self._more(max(PIECE, count - len(self._held))):
                raise _altered()
        return self._take(count)

    async def _more(self, count: int) -> bool:
        piece = await self._read(self._at, min(count, self._size - self._at)) if self._at < self._size else b""
        self._at += len(piece)
        self._held += piece
        return bool(piece)

    def _take(self, count: int) -> bytes:
        taken, self._held = self._held[:count], self._held[count:]
        self._sha.update(taken)
        return taken


def _line(data: dict[str, Any]) -> bytes:
    # ASCII: no line end can stand inside, and lone surrogates come through.
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def _pick(shard: bytes, of: int, rows: list[int], dim: int) -> bytes:
    if len(rows) == of:
        return shard
    split = of * dim
    codes = [shard[row * dim : (row + 1) * dim] for row in rows]
    return b"".join([*codes, *(shard[split + 4 * row : split + 4 * row + 4] for row in rows)])


def _altered() -> ExportCorrupt:
    return ExportCorrupt("The file is cut or was altered, or is no export. Nothing was imported. Take another copy.")
