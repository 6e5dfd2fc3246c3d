"""The store of CPython: a folder, and the transactions on it.

The folder holds one SQLite database: what a commit must do at once, to texts, ids and vectors, is what a transaction is
for, also between processes. The tables are those of the page's database (web/src/collection_store.ts).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from insitu.collection import folder_content
from insitu.collection.columns import Column, Columns
from insitu.collection.folder_content import Content
from insitu.collection.folder_words import FolderWords
from insitu.collection.store import VERSION, Change, Committed, Entry, Meta, News, Passage, Stored
from insitu.errors import CollectionCorrupt, CollectionVersion, DiskFull, WriteFailed

FILE = "collection.sqlite"


class FolderStore:
    """See `insitu.collection.store.Store`. Made with its folder if it is not there.

    Strings that may hold lone surrogates are kept as JSON: SQLite has none. Raises `WriteFailed`, `CollectionCorrupt`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._seen: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
            self._here, self._next = Content(self._db, self.path), Content(self._db, self.path, "next_")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it is acknowledged
            with self._transaction():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    self._here.create()
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        except OSError as error:
            raise WriteFailed(f"{folder} cannot be made ({error.strerror}).") from error
        except sqlite3.DatabaseError as error:
            raise CollectionCorrupt(f"{self.path} is no collection ({error}). Import an export.") from error
        if version > VERSION:
            self._db.close()
            raise CollectionVersion(
                f"{self.path} has version {version}; this release reads {VERSION}. Use the release that wrote it."
            )

    async def meta(self) -> Meta | None:
        return self._here.meta()

    async def declare(self, meta: Meta) -> None:
        with self._transaction():
            old = self._here.meta()
            self._here.write(
                meta if old is None else replace(old, fields={**old.fields, **meta.fields}, revision=old.revision + 1)
            )

    def changed(self) -> bool:
        return self._data_version() != self._seen

    async def news(self, epoch: int, rows: int, changes: int) -> News:
        with self._transaction(write=False):
            self._seen = self._data_version()
            meta = self._here.whole()
            if reset := meta.epoch != epoch:
                rows = changes = 0
            since = self._here.since(meta, rows, changes)
        return News(meta, reset, *since)

    async def find(self, ids: Sequence[str]) -> list[Entry | None]:
        with self._transaction(write=False):
            return [self._here.find(id) for id in ids]

    async def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        with self._transaction(write=False):
            return self._here.texts(numbers)

    async def passages(self, places: Sequence[tuple[int, int]], revision: int) -> list[Passage | None]:
        found = await self.texts([number for number, _ in places])
        return [stored.passage(at) if stored else None for stored, (_, at) in zip(found, places, strict=True)]

    async def full(self, rows: Sequence[tuple[int, int]]) -> bytes | None:
        codes, scales = [], []
        with self._transaction(write=False):
            meta = self._here.meta()
            size = meta.full if meta else 0
            for number, position in rows:
                found = self._db.execute("SELECT full FROM texts WHERE number = ?", (number,)).fetchone()
                if found is None:
                    return None
                blob = found[0]
                split = len(blob) // (size + 4) * size
                codes.append(blob[position * size : (position + 1) * size])
                scales.append(blob[split + 4 * position : split + 4 * position + 4])
        return b"".join(codes + scales)

    async def columns(self, names: Sequence[str], rows: array[int]) -> Columns:
        places: dict[int, int] = {}
        documents = []
        for number, fields in self._db.execute("SELECT number, fields FROM documents ORDER BY number"):
            places[number] = len(places)
            documents.append(json.loads(fields))
        columns = Columns(array("I", places), array("I", [places.get(number, 0) for number in rows]))
        for name in names:
            values = [fields.get(name) for fields in documents]
            known = sorted({value for value in values if value is not None})
            ranks = {None: 0} | {value: rank for rank, value in enumerate(known, 1)}
            columns.fields[name] = Column(known, array("I", map(ranks.__getitem__, values)))
        return columns

    async def commit(self, change: Change, codes: bytes, full: bytes) -> Committed:
        with self._transaction():
            meta = self._here.whole()
            change.require(meta)
            meta, numbers, deleted = self._here.apply(meta, change, codes, full)
            self._here.write(meta)
        return Committed(meta.revision, numbers, deleted)

    async def fold(self, firsts: Sequence[int]) -> None:
        with self._transaction():
            self._here.fold(self._here.whole(), firsts)

    async def compact(self) -> None:
        with self._transaction():
            self._here.compact(self._here.whole())

    async def segment(self, first: int) -> tuple[bytes, array[int]]:
        return self._here.segment(self._here.whole(), first)

    async def stage(self, meta: Meta, keep: bool = False) -> None:
        with self._transaction():
            made = self._next.meta() if folder_content.is_begun(self._db) else None
            if not (keep and made and (made.space, made.dim, made.full) == (meta.space, meta.dim, meta.full)):
                folder_content.drop(self._db)
                self._next.create()
                self._next.write(meta)

    async def commit_next(self, change: Change, codes: bytes, full: bytes) -> None:
        with self._transaction():
            made = self._next.whole()
            change.require(made)
            self._next.write(self._next.apply(made, change, codes, full)[0])

    async def swap(self, follow: bool, lost: Sequence[int] = ()) -> Sequence[int]:
        with self._transaction():
            made = self._next.whole()
            old = self._here.meta() or made
            if follow:
                if missing := folder_content.lacking(self._db, lost):
                    return missing
                gone = Change(delete=folder_content.surplus(self._db))
                made = replace(self._next.apply(made, gone, b"", b"")[0], fields=old.fields)
            folder_content.take_place(self._db)
            above = max(old.next, made.next)  # nobody takes a new document for an old one
            self._here.write(replace(made, epoch=old.epoch + 1, revision=old.revision + 1, next=above))
        return ()

    async def unstage(self) -> None:
        with self._transaction():
            folder_content.drop(self._db)

    @asynccontextmanager
    async def staging(self) -> AsyncIterator[None]:
        # Its lock is that of another database: it goes when the process goes, and nobody waits for it but who wants it.
        lock = sqlite3.connect(self.path.with_name("staging.sqlite"), isolation_level=None, timeout=0)
        try:
            while True:
                try:
                    lock.execute("BEGIN EXCLUSIVE")
                    break
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.05)
            yield
        finally:
            lock.close()

    async def words(self) -> FolderWords:
        return FolderWords(self._db, self._transaction)

    async def room(self) -> int | None:
        return shutil.disk_usage(self.path.parent).free

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        # Each commit is one transaction that takes SQLite's own lock; between commits nothing has to be held.
        yield

    async def about(self) -> dict[str, Any]:
        return {"place": str(self.path.parent), "usage": self.path.stat().st_size, "room": await self.room()}

    def close(self) -> None:
        self._db.close()

    # --- inside a transaction ------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself ends it when the disk is full
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise DiskFull(f"No space is left for {self.path}. What was there before is whole.") from error
            raise WriteFailed(f"{self.path}: {error}. What was there before is whole.") from error

    def _data_version(self) -> int:
        return int(self._db.execute("PRAGMA data_version").fetchone()[0]) * 2**32 + self._db.total_changes
