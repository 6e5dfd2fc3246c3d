"""The store of CPython: a folder. The only module of collections that touches the disk.

The folder holds one SQLite database: what a commit must do at once, to texts, ids and vectors, is what a transaction is
for, also between processes. The tables are those of the page's database (web/src/collection_store.ts).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Any
from zlib import crc32

from insitu.collection import staging
from insitu.collection.columns import Column, Columns
from insitu.collection.folder_words import FolderWords
from insitu.collection.store import VERSION, Change, Committed, Entry, Meta, News, Stored
from insitu.errors import CollectionCorrupt, CollectionVersion, DiskFull, WriteFailed

FILE = "collection.sqlite"
# Rows of a segment written by compaction or import. See `SEGMENT_ROWS` of `insitu.collection.collection`.
SEGMENT_ROWS = 4096

_TABLES = """
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), data TEXT NOT NULL);
CREATE TABLE segments (first INTEGER PRIMARY KEY, count INTEGER, sum INTEGER, data BLOB);
CREATE TABLE dead (seq INTEGER PRIMARY KEY, numbers BLOB);
CREATE TABLE documents (
    id TEXT PRIMARY KEY, number INTEGER, hash TEXT, rows INTEGER, size INTEGER, fields TEXT
) WITHOUT ROWID;
CREATE TABLE texts (number INTEGER PRIMARY KEY, id TEXT, title TEXT, text TEXT, cuts BLOB, full BLOB);
"""


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
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it is acknowledged
            with self._transaction():
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
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
        return self._meta()

    async def declare(self, meta: Meta) -> None:
        with self._transaction():
            old = self._meta()
            self._write(
                meta if old is None else replace(old, fields={**old.fields, **meta.fields}, revision=old.revision + 1)
            )

    def changed(self) -> bool:
        return self._data_version() != self._seen

    async def news(self, epoch: int, rows: int, changes: int) -> News:
        with self._transaction(write=False):
            self._seen = self._data_version()
            meta = self._meta()
            if meta is None:
                raise CollectionCorrupt(f"{self.path} has lost its record. Import an export.")
            reset = meta.epoch != epoch
            if reset:
                rows = changes = 0
            parts, numbers, damaged, last = [], array("I"), [], 0
            for first, count in meta.segments:
                if first + count <= rows:
                    continue
                skip = max(0, rows - first)
                try:
                    shard, named = self._segment(meta, first)
                except CollectionCorrupt:
                    damaged.append(first)
                    nothing = array("f", [float("nan")]) * count
                    shard, named = bytes(count * meta.dim) + nothing.tobytes(), array("I", [last]) * count
                last = named[-1]
                split = count * meta.dim
                parts.append(shard[skip * meta.dim : split] + shard[split + 4 * skip :])
                numbers.extend(named[skip:])
            dead = [
                number
                for (blob,) in self._db.execute("SELECT numbers FROM dead WHERE seq > ? ORDER BY seq", (changes,))
                for number in array("I", blob)
            ]
        return News(meta, reset, parts, numbers, dead, damaged)

    async def find(self, ids: Sequence[str]) -> list[Entry | None]:
        with self._transaction(write=False):
            return [self._find(id) for id in ids]

    async def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        select = (
            "SELECT id, title, text, cuts, hash, fields FROM texts JOIN documents USING (id, number) WHERE number = ?"
        )
        with self._transaction(write=False):
            rows = [self._db.execute(select, (number,)).fetchone() for number in numbers]
        return [None if row is None else _stored(row) for row in rows]

    async def full(self, rows: Sequence[tuple[int, int]]) -> bytes | None:
        codes, scales = [], []
        with self._transaction(write=False):
            meta = self._meta()
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
            meta = self._meta()
            assert meta is not None
            change.require(meta)
            meta, numbers, deleted = self._apply(meta, change, codes, full)
            self._write(meta)
        return Committed(meta.revision, numbers, deleted)

    async def fold(self, firsts: Sequence[int]) -> None:
        with self._transaction():
            meta = self._meta()
            assert meta is not None
            try:
                parts = [self._segment(meta, first) for first in firsts]
            except CollectionCorrupt:
                return
            self._db.executemany("DELETE FROM segments WHERE first = ?", [(first,) for first in firsts])
            joined = array("I")
            for _, numbers in parts:
                joined.extend(numbers)
            kept = [part for part in meta.segments if part[0] not in firsts]
            segments = sorted(
                [*map(list, kept), self._write_segment(firsts[0], _join([p for p, _ in parts], meta.dim), joined)]
            )
            self._write(replace(meta, segments=segments, revision=meta.revision + 1))

    async def compact(self) -> None:
        with self._transaction():
            meta = self._meta()
            assert meta is not None
            dim, dead = (
                meta.dim,
                {n for (blob,) in self._db.execute("SELECT numbers FROM dead") for n in array("I", blob)},
            )
            kept: list[tuple[bytes, bytes, int]] = []  # code, scale and number of each row
            for first, count in meta.segments:
                with suppress(CollectionCorrupt):
                    shard, numbers = self._segment(meta, first)
                    codes = (shard[i * dim : (i + 1) * dim] for i in range(count))
                    scales = (shard[i : i + 4] for i in range(count * dim, count * (dim + 4), 4))
                    kept += [row for row in zip(codes, scales, numbers, strict=True) if row[2] not in dead]
            self._db.execute("DELETE FROM segments")
            self._db.execute("DELETE FROM dead")
            segments: list[Sequence[int]] = []
            start = 0
            while start < len(kept):
                end = min(start + SEGMENT_ROWS, len(kept))
                while end < len(kept) and kept[end][2] == kept[end - 1][2]:  # a document is in one segment
                    end += 1
                part = kept[start:end]
                shard = b"".join([row[0] for row in part] + [row[1] for row in part])
                segments.append(self._write_segment(start, shard, array("I", [row[2] for row in part])))
                start = end
            whole = replace(meta, segments=segments, rows=len(kept), dead=0, changes=0)
            self._write(replace(whole, epoch=meta.epoch + 1, revision=meta.revision + 1))

    async def segment(self, first: int) -> tuple[bytes, array[int]]:
        meta = self._meta()
        assert meta is not None
        return self._segment(meta, first)

    async def stage(self, meta: Meta, keep: bool = False) -> None:
        with self._transaction():
            made = self._meta("next_") if staging.is_begun(self._db) else None
            if not (keep and made and (made.space, made.dim, made.full) == (meta.space, meta.dim, meta.full)):
                staging.drop(self._db)
                for statement in _TABLES.split(";"):
                    self._db.execute(statement.replace("CREATE TABLE ", "CREATE TABLE next_"))
                self._write(meta, "next_")

    async def commit_next(self, change: Change, codes: bytes, full: bytes) -> None:
        with self._transaction():
            made = self._meta("next_")
            assert made is not None
            change.require(made)
            self._write(self._apply(made, change, codes, full, "next_")[0], "next_")

    async def swap(self, follow: bool, lost: Sequence[int] = ()) -> Sequence[int]:
        with self._transaction():
            meta, made = self._meta(), self._meta("next_")
            assert made is not None
            old = meta or made
            if follow:
                if missing := staging.lacking(self._db, lost):
                    return missing
                gone = Change(delete=staging.surplus(self._db))
                made = replace(self._apply(made, gone, b"", b"", "next_")[0], fields=old.fields)
            staging.take_place(self._db)
            above = max(old.next, made.next)  # nobody takes a new document for an old one
            self._write(replace(made, epoch=old.epoch + 1, revision=old.revision + 1, next=above))
        return ()

    async def unstage(self) -> None:
        with self._transaction():
            staging.drop(self._db)

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

    def _meta(self, at: str = "") -> Meta | None:
        found = self._db.execute(f"SELECT data FROM {at}meta").fetchone()
        return None if found is None else Meta.of(json.loads(found[0]))

    def _write(self, meta: Meta, at: str = "") -> None:
        self._db.execute(f"INSERT OR REPLACE INTO {at}meta VALUES (1, ?)", (json.dumps(asdict(meta)),))

    def _find(self, id: str) -> Entry | None:
        select = "SELECT number, hash, rows, fields FROM documents WHERE id = ?"
        found = self._db.execute(select, (json.dumps(id),)).fetchone()
        return None if found is None else Entry(found[0], found[1], found[2], json.loads(found[3]))

    def _segment(self, meta: Meta, first: int) -> tuple[bytes, array[int]]:
        found = self._db.execute("SELECT count, sum, data FROM segments WHERE first = ?", (first,)).fetchone()
        count = next((count for start, count in meta.segments if start == first), 0)
        if found is None or found[0] != count or len(found[2]) != count * (meta.dim + 8) or crc32(found[2]) != found[1]:
            raise CollectionCorrupt(f"The segment {first} of {self.path} is damaged. Put its documents again.")
        split = count * (meta.dim + 4)
        return found[2][:split], array("I", found[2][split:])

    def _write_segment(self, first: int, shard: bytes, numbers: array[int], at: str = "") -> list[int]:
        data = shard + numbers.tobytes()
        self._db.execute(f"INSERT INTO {at}segments VALUES (?, ?, ?, ?)", (first, len(numbers), crc32(data), data))
        return [first, len(numbers)]

    def _apply(
        self, meta: Meta, change: Change, codes: bytes, full: bytes, at: str = ""
    ) -> tuple[Meta, list[int], int]:
        """`at`: what the names of the tables begin with."""
        db, dead, buried, documents, size = self._db, array("I"), 0, meta.documents, meta.bytes
        numbers = array("I")
        sizes = [item["rows"] for item in change.put]
        starts = [0, *accumulate(sizes)]

        def leave(id: str) -> bool:
            nonlocal buried, documents, size
            row = db.execute(f"SELECT number, rows, size FROM {at}documents WHERE id = ?", (json.dumps(id),)).fetchone()
            if row is None:
                return False
            dead.append(row[0])
            buried, documents, size = buried + row[1], documents - 1, size - row[2]
            db.execute(f"DELETE FROM {at}texts WHERE number = ?", (row[0],))
            db.execute(f"DELETE FROM {at}documents WHERE id = ?", (json.dumps(id),))
            return True

        deleted = sum([leave(id) for id in change.delete])
        given = []
        for place, item in enumerate(change.put):
            leave(item["id"])
            number = meta.next + place
            given.append(number)
            id, fields = json.dumps(item["id"]), json.dumps(item["fields"])
            part = _rows(full, starts[-1], starts[place], item["rows"])
            words = json.dumps(item["title"]), json.dumps(item["text"]), array("I", item["cuts"]).tobytes()
            db.execute(
                f"INSERT INTO {at}documents VALUES (?, ?, ?, ?, ?, ?)",
                (id, number, item["hash"], item["rows"], item["size"], fields),
            )
            db.execute(f"INSERT INTO {at}texts VALUES (?, ?, ?, ?, ?, ?)", (number, id, *words, part))
            numbers.extend([number] * item["rows"])
            documents, size = documents + 1, size + item["size"]
        for id, values in change.touch:
            db.execute(f"UPDATE {at}documents SET fields = ? WHERE id = ?", (json.dumps(values), json.dumps(id)))
        segments = list(meta.segments)
        if numbers:
            segments.append(self._write_segment(meta.rows, codes, numbers, at))
        if dead:
            db.execute(f"INSERT INTO {at}dead VALUES (?, ?)", (meta.changes + 1, dead.tobytes()))
        changed: Mapping[str, Any] = {
            "revision": meta.revision + 1,
            "rows": meta.rows + len(numbers),
            "dead": meta.dead + buried,
            "next": meta.next + len(change.put),
            "changes": meta.changes + bool(dead),
            "documents": documents,
            "bytes": size,
            "segments": segments,
        }
        return replace(meta, **changed), given, deleted


def _stored(row: Sequence[Any]) -> Stored:
    id, title, text = (json.loads(part) for part in row[:3])
    return Stored(id, title, text, list(array("I", row[3])), row[4], json.loads(row[5]))


def _rows(shard: bytes, of: int, first: int, count: int) -> bytes:
    """Some rows of a shard of `of` rows, as a shard."""
    size = len(shard) // of - 4 if shard else 0
    split = of * size
    if not shard:
        return b""
    return shard[first * size : (first + count) * size] + shard[split + 4 * first : split + 4 * (first + count)]


def _join(shards: Sequence[bytes], dim: int) -> bytes:
    edges = [len(shard) // (dim + 4) * dim for shard in shards]
    return b"".join(
        [s[:e] for s, e in zip(shards, edges, strict=True)] + [s[e:] for s, e in zip(shards, edges, strict=True)]
    )
