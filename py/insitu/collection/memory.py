"""What an opened collection holds in memory, and how it learns what was committed since."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress

from insitu.collection.columns import Columns
from insitu.collection.store import Change, Committed, Meta, Store
from insitu.collection.where import match
from insitu.errors import SpaceMismatch
from insitu.runtime import Codes, Passing, Runtime


class Memory:
    """`codes` of all rows; `numbers`, the document of each; `dead` numbers; `columns` once a filter was used."""

    def __init__(self, runtime: Runtime, store: Store, meta: Meta) -> None:
        self._runtime = runtime
        self._store = store
        self._refreshing = asyncio.Lock()
        self.forget(meta)

    def forget(self, meta: Meta) -> None:
        """All of it; `refresh` reads it again."""
        self.meta = meta
        self.codes: Codes = self._runtime.empty_codes(self.meta.dim)
        self.numbers: array[int] = array("I")  # of each row, ascending
        self.dead: set[int] = set()
        self.damaged: set[int] = set()
        self.columns: Columns | None = None
        self._known = (0, 0)  # epoch, last entry of the list of the dead

    async def refresh(self, own: int | None = None, *, again: bool = False) -> None:
        """Learn what was committed since. `own`: the revision that a commit of ours made."""
        if own is None and not again and self._known[0] and not self._store.changed():
            return
        async with self._refreshing:
            epoch, changes = self._known
            news = await self._store.news(epoch, len(self.numbers), changes)
            if (news.meta.space, news.meta.full) != (self.meta.space, self.meta.full):
                raise SpaceMismatch("The collection has come to hold vectors of another space or size. Open it again.")
            # No await below: nobody sees half of it.
            if news.meta.revision != self.meta.revision and not news.meta.revision == own == self.meta.revision + 1:
                self.columns = None  # somebody else wrote, perhaps between our last look and our own commit
            if news.reset:
                self.forget(news.meta)
            self.meta = news.meta
            for part in news.parts:
                self._runtime.append(self.codes, part)
            self.numbers.extend(news.numbers)
            self.damaged.update(news.damaged)
            self.dead.update(news.dead)
            self._known = (news.meta.epoch, news.meta.changes)
            self._runtime.bury(self.codes, self.positions(sorted(news.dead)))

    def keep_fields(self, done: Committed, change: Change, known: Mapping[str, int]) -> None:
        """Bring the fields up to date after a commit of ours; `known`: the numbers that ids had before."""
        columns = self.columns
        if columns is None or done.revision != self.meta.revision + 1:
            self.columns = None  # they are not here, or somebody else wrote between: they are read when they are needed
            return
        for number, item in zip(done.numbers, change.put, strict=True):
            place = len(columns.numbers)
            columns.numbers.append(number)
            columns.at.extend([place] * item["rows"])
            for name, column in columns.fields.items():
                column.set(place, item["fields"].get(name))
        for id, fields in change.touch:
            place = bisect_left(columns.numbers, known[id])
            for name, column in columns.fields.items():
                column.set(place, fields.get(name))

    async def load_columns(self) -> None:
        revision = self.meta.revision
        columns = await self._store.columns(list(self.meta.fields), self.numbers)
        await self.refresh(again=True)
        if self.meta.revision == revision:
            self.columns = columns

    def missing(self) -> int:
        """Documents without a vector that can be read."""
        return self.meta.documents - len(set(self.numbers) - self.dead - {0}) if self.damaged else 0

    def rows(self, number: int) -> range:
        return range(bisect_left(self.numbers, number), bisect_right(self.numbers, number))

    def passing(self, where: object) -> Passing:
        """The rows whose documents `where` lets pass."""
        assert self.columns is not None
        # A put may have told of rows that are not here yet.
        return Passing(self._match(where), self.columns.at[: len(self.numbers)])

    def alive(self, where: object) -> Iterator[int]:
        """The documents that `where` lets pass, those put last first."""
        assert self.columns is not None
        mask = self._match(where)[:-1]
        return (n for n in compress(reversed(self.columns.numbers), reversed(mask)) if n not in self.dead)

    def _match(self, where: object) -> bytes:
        """A byte for each document, and a 0 more."""
        assert self.columns is not None
        count = len(self.columns.numbers)
        return match(where, self.meta.fields, self.columns.fields, count).to_bytes(count + 1, "little")

    def positions(self, numbers: Sequence[int]) -> list[int]:
        """The rows of these documents, ascending."""
        return [position for number in numbers for position in self.rows(number)]
