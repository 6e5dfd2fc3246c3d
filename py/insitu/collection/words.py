"""Words beside the vectors: which passages hold the terms of a question.

A `WordIndex` knows terms and numbers, no texts; its BM25 is that of a library (SQLite FTS5 in a folder, MiniSearch in
the page). It is derived data: what it lacks is read from the store, and what it should not hold is taken out, at the
first search by words after a change, whoever made it. As a text that changes gets a new number, the numbers that it
holds tell all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from insitu.collection.memory import Memory
from insitu.collection.store import Store, Stored
from insitu.text.words import terms

# Documents that are read and added at once. After each batch a search can be cancelled; what was added stays.
BATCH = 128
# What is in so many passages, and in so large a share of them, is asked only if the query has no rarer term: it says
# little, and each passage that holds it costs time. On XQuAD a share of a tenth changed nDCG@10 by less than 0.007.
COMMON_LEAST, COMMON_SHARE = 1000, 0.1


class WordIndex(Protocol):
    """Postings, kept by the place where the collection lies."""

    async def numbers(self) -> Sequence[int]:
        """The documents that it holds."""

    async def add(self, documents: Sequence[tuple[int, Sequence[str]]]) -> None:
        """A document: its number, and for each passage the terms, joined by spaces. One that is there stays."""

    async def remove(self, numbers: Sequence[int]) -> None: ...

    async def count(self, terms: Sequence[str]) -> list[int]:
        """How many passages hold each."""

    async def find(self, terms: Sequence[str], k: int, among: Sequence[int] | None) -> list[tuple[int, int]]:
        """Number and position of the `k` passages that hold the terms best (BM25, any of them), best first."""


class Words:
    """The word index of an opened collection."""

    def __init__(self, store: Store, held: Memory) -> None:
        self._store = store
        self._held = held
        self._index: WordIndex | None = None
        self._state: tuple[int, int] | None = None
        self._following = asyncio.Lock()

    async def find(self, terms: Sequence[str], k: int, among: Sequence[int] | None) -> list[tuple[int, int]]:
        """See `WordIndex.find`; of documents that are alive."""
        async with self._following:  # whoever comes meanwhile would read the same texts
            index = await self._followed()
        common = max(COMMON_LEAST, COMMON_SHARE * len(self._held.numbers))
        counts = await index.count(terms)
        rare = [term for term, count in zip(terms, counts, strict=True) if 0 < count <= common]
        found = await index.find(rare or terms, k, among)
        dead = self._held.dead
        return [(number, at) for number, at in found if number not in dead and at < len(self._held.rows(number))]

    async def _followed(self) -> WordIndex:
        index = self._index = self._index or await self._store.words()
        state = (self._held.meta.epoch, self._held.meta.revision)
        if state != self._state:
            alive = set(self._held.numbers) - self._held.dead
            here = set(await index.numbers())
            await index.remove(sorted(here - alive))
            fresh = sorted(alive - here)
            for start in range(0, len(fresh), BATCH):
                numbers = fresh[start : start + BATCH]
                stored = await self._store.texts(numbers)
                await index.add([(n, _passages(s)) for n, s in zip(numbers, stored, strict=True) if s])
                await asyncio.sleep(0)
            self._state = state
        return index


def _passages(stored: Stored) -> list[str]:
    """The title counts for each passage, as in what is embedded."""
    title = terms(stored.title)
    edges = zip(stored.cuts[::2], stored.cuts[1::2], strict=True)
    return [" ".join(title + terms(stored.text[start:end])) for start, end in edges]
