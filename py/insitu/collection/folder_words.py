"""The word index of CPython: SQLite's FTS5, in the database of the collection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from insitu.text.words import VERSION

# A row of the index is a passage: the number of its document above these bits, its position in them.
BITS = 20
NAME = f"words_{VERSION}"
# Terms come as they are to be: "ascii" parts them at spaces and leaves all other characters alone.
_TABLE = f"""CREATE VIRTUAL TABLE IF NOT EXISTS {NAME} USING fts5(terms, tokenize = "ascii tokenchars '_'")"""


class FolderWords:
    """See `insitu.collection.words.WordIndex`. `transaction`: that of the store."""

    def __init__(self, db: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._db = db
        self._transaction = transaction
        with transaction():
            db.execute(_TABLE)
        db.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.words_terms USING fts5vocab(main, {NAME}, row)")

    async def numbers(self) -> list[int]:
        # FTS5's own list of rows: a walk over the index would read all terms.
        return [row[0] for row in self._db.execute(f"SELECT DISTINCT id >> {BITS} FROM {NAME}_docsize")]

    async def add(self, documents: Sequence[tuple[int, Sequence[str]]]) -> None:
        rows = [((number << BITS) + at, terms) for number, passages in documents for at, terms in enumerate(passages)]
        with self._transaction():
            self._db.executemany(f"INSERT OR REPLACE INTO {NAME} (rowid, terms) VALUES (?, ?)", rows)

    async def remove(self, numbers: Sequence[int]) -> None:
        if numbers:
            edges = [(number << BITS, (number + 1) << BITS) for number in numbers]
            with self._transaction():
                self._db.executemany(f"DELETE FROM {NAME} WHERE rowid >= ? AND rowid < ?", edges)

    async def count(self, terms: Sequence[str]) -> list[int]:
        select = "SELECT ifnull(max(doc), 0) FROM words_terms WHERE term = ?"
        return [self._db.execute(select, (term,)).fetchone()[0] for term in terms]

    async def find(self, terms: Sequence[str], k: int, among: Sequence[int] | None) -> list[tuple[int, int]]:
        match = " OR ".join(f'"{term}"' for term in terms)
        allowed = None if among is None else set(among)
        found: list[tuple[int, int]] = []
        for (row,) in self._db.execute(f"SELECT rowid FROM {NAME} WHERE {NAME} MATCH ? ORDER BY rank, rowid", (match,)):
            if allowed is None or row >> BITS in allowed:
                found.append((row >> BITS, row % (1 << BITS)))
                if len(found) == k:
                    break
        return found
