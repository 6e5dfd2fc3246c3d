"""One content of a folder: segments, documents and texts, in tables of its database, and the record that binds them.

Inside a transaction of `insitu.collection.folder`. A content that is made beside the one that answers lies in tables
whose names begin with `next_`.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Any
from zlib import crc32

from insitu.collection.store import Change, Entry, Meta, Stored
from insitu.errors import CollectionCorrupt

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
_NAMES = ("segments", "dead", "documents", "texts")


class Content:
    """`at`: what the names of its tables begin with. `path`: of the database, for messages."""

    def __init__(self, db: sqlite3.Connection, path: Path, at: str = "") -> None:
        self._db = db
        self._path = path
        self._at = at

    def create(self) -> None:
        for statement in _TABLES.split(";"):
            self._db.execute(statement.replace("CREATE TABLE ", f"CREATE TABLE {self._at}"))

    def meta(self) -> Meta | None:
        found = self._db.execute(f"SELECT data FROM {self._at}meta").fetchone()
        return None if found is None else Meta.of(json.loads(found[0]))

    def whole(self) -> Meta:
        """The record, which must be there."""
        meta = self.meta()
        if meta is None:
            raise CollectionCorrupt(f"{self._path} has lost its record. Import an export.")
        return meta

    def write(self, meta: Meta) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO {self._at}meta VALUES (1, ?)", (json.dumps(asdict(meta)),))

    def find(self, id: str) -> Entry | None:
        select = f"SELECT number, hash, rows, fields FROM {self._at}documents WHERE id = ?"
        found = self._db.execute(select, (json.dumps(id),)).fetchone()
        return None if found is None else Entry(found[0], found[1], found[2], json.loads(found[3]))

    def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        select = (
            f"SELECT id, title, text, cuts, hash, fields FROM {self._at}texts "
            f"JOIN {self._at}documents USING (id, number) WHERE number = ?"
        )
        rows = [self._db.execute(select, (number,)).fetchone() for number in numbers]
        return [None if row is None else _stored(row) for row in rows]

    def since(self, meta: Meta, rows: int, changes: int) -> tuple[list[bytes], array[int], list[int], list[int]]:
        """`parts`, `numbers`, `dead` and `damaged` of `News`, for a reader that has so many of both."""
        parts, numbers, damaged, last = [], array("I"), [], 0
        for first, count in meta.segments:
            if first + count <= rows:
                continue
            skip = max(0, rows - first)
            try:
                shard, named = self.segment(meta, first)
            except CollectionCorrupt:
                damaged.append(first)
                nothing = array("f", [float("nan")]) * count
                shard, named = bytes(count * meta.dim) + nothing.tobytes(), array("I", [last]) * count
            last = named[-1]
            split = count * meta.dim
            parts.append(shard[skip * meta.dim : split] + shard[split + 4 * skip :])
            numbers.extend(named[skip:])
        return parts, numbers, self.dead(changes), damaged

    def dead(self, changes: int = 0) -> list[int]:
        """Numbers that died after so many changes."""
        select = f"SELECT numbers FROM {self._at}dead WHERE seq > ? ORDER BY seq"
        return [number for (blob,) in self._db.execute(select, (changes,)) for number in array("I", blob)]

    def segment(self, meta: Meta, first: int) -> tuple[bytes, array[int]]:
        found = self._db.execute(
            f"SELECT count, sum, data FROM {self._at}segments WHERE first = ?", (first,)
        ).fetchone()
        count = next((count for start, count in meta.segments if start == first), 0)
        if found is None or found[0] != count or len(found[2]) != count * (meta.dim + 8) or crc32(found[2]) != found[1]:
            raise CollectionCorrupt(f"The segment {first} of {self._path} is damaged. Put its documents again.")
        split = count * (meta.dim + 4)
        return found[2][:split], array("I", found[2][split:])

    def fold(self, meta: Meta, firsts: Sequence[int]) -> None:
        try:
            parts = [self.segment(meta, first) for first in firsts]
        except CollectionCorrupt:
            return
        self._db.executemany(f"DELETE FROM {self._at}segments WHERE first = ?", [(first,) for first in firsts])
        joined = array("I")
        for _, numbers in parts:
            joined.extend(numbers)
        whole = self._write_segment(firsts[0], _join([shard for shard, _ in parts], meta.dim), joined)
        segments = sorted([*(list(part) for part in meta.segments if part[0] not in firsts), whole])
        self.write(replace(meta, segments=segments, revision=meta.revision + 1))

    def compact(self, meta: Meta) -> None:
        dim, dead = meta.dim, set(self.dead())
        kept: list[tuple[bytes, bytes, int]] = []  # code, scale and number of each row
        for first, count in meta.segments:
            with suppress(CollectionCorrupt):
                shard, numbers = self.segment(meta, first)
                codes = (shard[i * dim : (i + 1) * dim] for i in range(count))
                scales = (shard[i : i + 4] for i in range(count * dim, count * (dim + 4), 4))
                kept += [row for row in zip(codes, scales, numbers, strict=True) if row[2] not in dead]
        self._db.execute(f"DELETE FROM {self._at}segments")
        self._db.execute(f"DELETE FROM {self._at}dead")
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
        self.write(replace(whole, epoch=meta.epoch + 1, revision=meta.revision + 1))

    def apply(self, meta: Meta, change: Change, codes: bytes, full: bytes) -> tuple[Meta, list[int], int]:
        """Do `change`; gives the record after it, which is not written yet, and what `Committed` tells."""
        db, at, dead, buried, documents, size = self._db, self._at, array("I"), 0, meta.documents, meta.bytes
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
            segments.append(self._write_segment(meta.rows, codes, numbers))
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

    def _write_segment(self, first: int, shard: bytes, numbers: array[int]) -> list[int]:
        data = shard + numbers.tobytes()
        self._db.execute(
            f"INSERT INTO {self._at}segments VALUES (?, ?, ?, ?)", (first, len(numbers), crc32(data), data)
        )
        return [first, len(numbers)]


# --- a content that is made beside the one that answers -----------------------------------------------------------


def is_begun(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'next_meta'").fetchone() is not None


def drop(db: sqlite3.Connection) -> None:
    for table in ("meta", *_NAMES):
        db.execute(f"DROP TABLE IF EXISTS next_{table}")


def lacking(db: sqlite3.Connection, lost: Sequence[int]) -> list[int]:
    """The numbers of the documents that it lacks, but for those `lost`."""
    select = (
        "SELECT d.number FROM documents d LEFT JOIN next_documents n USING (id) "
        "WHERE n.hash IS NULL OR n.hash != d.hash ORDER BY d.number"
    )
    leave = set(lost)
    return [number for (number,) in db.execute(select) if number not in leave]


def surplus(db: sqlite3.Connection) -> list[str]:
    """The ids that are to be there no more; the other documents get the fields of today."""
    select = "SELECT id FROM next_documents n LEFT JOIN documents d USING (id) WHERE d.hash IS NULL OR d.hash != n.hash"
    gone = [json.loads(id) for (id,) in db.execute(select)]
    newest = "SELECT fields FROM documents d WHERE d.id = next_documents.id"
    db.execute(f"UPDATE next_documents SET fields = coalesce(({newest}), fields)")
    return gone


def take_place(db: sqlite3.Connection) -> None:
    for table in _NAMES:
        db.execute(f"DROP TABLE {table}")
        db.execute(f"ALTER TABLE next_{table} RENAME TO {table}")
    db.execute("DROP TABLE next_meta")


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
