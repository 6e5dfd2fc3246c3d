"""How a query becomes answers: candidates by codes and by words, made one ranking, then their texts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from insitu.collection.fuse import fuse
from insitu.collection.memory import Memory
from insitu.collection.store import Passage, Store, Stored
from insitu.collection.words import Words
from insitu.embedder import Embedder
from insitu.index.search import RESCORE_LEAST, RESCORE_PER_HIT
from insitu.runtime import Passing
from insitu.text.words import query_terms


@dataclass(frozen=True)
class Found:
    """One document. `text` is the passage that matched; without a query, all of its text.

    `score`: cosine, -1 to 1 (at full size where the collection rescores); None without a query.
    """

    id: str
    title: str
    text: str
    score: float | None
    fields: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Searcher:
    """Asks what `held` knows and the texts of `store`."""

    def __init__(self, embedder: Embedder, store: Store, held: Memory) -> None:
        self._embedder = embedder
        self._store = store
        self._held = held
        self._words = Words(store, held)

    async def search(self, query: str | None, k: int, where: object, weight: float, exact: bool) -> list[Found]:
        """See `Collection.search`, which has checked all of these. `weight`: of the words."""
        self._store.changed()  # a store may find out while the query is embedded
        embedded = None if query is None else await self._embedder.embed([query], task="query", dim=self._held.meta.dim)
        terms = query_terms(query) if query and weight else []  # none: signs only, which have a meaning still
        while True:
            await self._held.refresh()
            if where is not None and self._held.columns is None:
                await self._held.load_columns()
                continue  # somebody may have written meanwhile
            revision = self._held.meta.revision
            if embedded is None:
                found, whole = await self._list(k, where)
            else:
                found, whole = await self._search(embedded.block, k, where, terms, weight, exact)
            whole = whole and not self._store.changed()  # fields may be of another state than what was found by them
            if not whole:
                await self._held.refresh(again=True)
            # Not whole: a document went while it was read, replaced or deleted, and the answer is to be of one state.
            # If nobody wrote, its text is lost, and the others are the answer.
            if revision == self._held.meta.revision:
                return found

    async def _list(self, k: int, where: object) -> tuple[list[Found], bool]:
        numbers = list(islice(self._held.alive(where), k))
        stored = await self._store.texts(numbers)
        return [_found(d, None) for d in stored if d], None not in stored

    async def _search(
        self, query: Any, k: int, where: object, terms: Sequence[str], weight: float, exact: bool
    ) -> tuple[list[Found], bool]:
        # Where nothing is rescored or fused, more than the hits are looked at only for documents of several passages.
        reach = max(RESCORE_LEAST, RESCORE_PER_HIT * k) if self._held.meta.full or terms else max(16, 2 * k)
        worded: list[tuple[int, int]] = []
        while True:
            if terms:
                worded = await self._words.find(terms, reach, None if where is None else list(self._held.alive(where)))
                if where is not None and self._held.columns is None:
                    return [], False
            scores = {}
            if not (terms and weight == 1):
                rows = None if where is None else self._held.passing(where)
                scores = await self._compare(query, reach, rows, exact)
            meant = sorted(scores, key=lambda place: (-scores[place], place))
            ranked = fuse(meant, worded, weight) if terms else meant
            chosen: dict[int, int] = {}
            for number, passage in ranked:
                chosen.setdefault(number, passage)
            # Long documents may fill the candidates with their passages; then more are looked at.
            if len(chosen) >= k or max(len(meant), len(worded)) < reach:
                break
            reach *= 4
        best_of = list(chosen.items())[:k]
        if unknown := [self._held.rows(n)[at] for n, at in best_of if (n, at) not in scores and self._held.rows(n)]:
            scores |= await self._compare(query, len(unknown), unknown)
        passages = await self._store.passages(best_of, self._held.meta.revision)
        found = [_found(d, scores.get(place)) for place, d in zip(best_of, passages, strict=True) if d]
        return found, None not in passages

    async def _compare(
        self, query: Any, reach: int, among: Sequence[int] | Passing | None, exact: bool = False
    ) -> dict[tuple[int, int], float]:
        """Number and position of the `reach` best passages by codes; their cosines, at full size where it is kept."""
        while True:
            revision = self._held.meta.revision
            best = await self._embedder.runtime.scan(query, self._held.codes, reach, among=among, exact=exact)
            if revision == self._held.meta.revision:
                break  # else a long scan gave way to a commit, and has seen neither state
        # From here on numbers, not positions: a commit may move rows while something is awaited.
        places = [
            (number, position - bisect_left(self._held.numbers, number))
            for position, _ in best
            for number in [self._held.numbers[position]]
        ]
        scores = [score for _, score in best]
        if self._held.meta.full and places:
            codes = await self._store.full(places)
            scores = scores if codes is None else await self._embedder.runtime.rescore(query, codes)
        return dict(zip(places, scores, strict=True))


def _found(of: Stored | Passage, score: float | None) -> Found:
    return Found(of.id, of.title, of.text, score, of.fields)
