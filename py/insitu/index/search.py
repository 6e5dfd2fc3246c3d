"""A query to hits: scan all vectors at the index's size, rescore the best at full size, group by page."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from insitu.embedder import Embedder, Embeddings
from insitu.errors import EmptyQuery, InvalidArgument
from insitu.index.format import ChunkEntry, IndexManifest, PageList, Shard, Texts, parse_pages, parse_texts
from insitu.model.lock import ModelLock
from insitu.runtime import Codes, Runtime

# How many of the scan are rescored at full size: the true best ten are among the best fifty of 128 components nearly
# always, and fifty products cost nothing. See DESIGN.md, "Search".
RESCORE_LEAST, RESCORE_PER_HIT = 50, 5
# Ten answers should be ten places to look: chunks of one section are one place, and a long page of reference, where the
# second section is often the one meant, gets two before other pages had their turn.
HITS_PER_PAGE = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Hit:
    """One passage. `url` is relative to the site's root, its anchor included. `score`: cosine, -1 to 1, full size."""

    url: str
    title: str
    heading: str
    text: str
    score: float

    def as_dict(self) -> dict[str, str | float]:
        return asdict(self)


class Index:
    """An opened index. Vectors are read when it opens, full-size codes and texts when a search needs them."""

    def __init__(
        self, embedder: Embedder, manifest: IndexManifest, pages: PageList, codes: Codes, *, rescore: bool = True
    ) -> None:
        self.embedder = embedder
        self.manifest = manifest
        self.pages = pages
        self._runtime = embedder.runtime
        self._codes = codes
        self._rescores = rescore
        self._full = _Loaded(self._load_full)
        self._texts = _Loaded(self._load_texts)

    @classmethod
    async def open(cls, runtime: Runtime, lock: ModelLock, manifest_bytes: bytes) -> Index:
        """Open the index that `index.json` (its bytes) describes. The runtime knows where the other files are.

        Raises `IndexVersion`, `IndexCorrupt`, `SpaceMismatch` (another model made it), `DimUnsupported`.
        """
        manifest = IndexManifest.from_json(manifest_bytes)
        # A dim that the model lacks is another space too, and the error that names both models says more.
        lock.space(min(manifest.dim, lock.full_dim)).require(manifest.space, "The index")
        refs = [shard.vectors for shard in manifest.shards]
        codes, pages = await asyncio.gather(runtime.load_codes(refs, manifest.dim), runtime.read(manifest.pages))
        return cls(
            Embedder(runtime, lock),
            manifest,
            parse_pages(pages, manifest.count),
            codes,
            rescore=manifest.dim < manifest.full_dim,
        )

    async def search(self, query: str, k: int = 10) -> list[Hit]:
        """The `k` best passages, best first: at most two of a page, of different sections; if that makes too few
        (a site of few pages), further ones follow.

        Raises `EmptyQuery`, `InvalidArgument`, and `IndexCorrupt` if a file that is read now is not the one indexed.
        """
        if not isinstance(query, str):
            raise InvalidArgument(f"The query is {type(query).__name__}, not str.")
        if not query.strip():
            raise EmptyQuery("The query has no text. Ask with at least one word.")
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise InvalidArgument(f"k is {k!r}: ask for at least 1 hit.")
        embedded = await self.embedder.embed([query], task="query", dim=self.manifest.dim)
        return await self.search_embedded(embedded, k)

    async def search_embedded(self, query: Embeddings, k: int) -> list[Hit]:
        """As `search`, for a query embedded already (row 0, at the index's dim)."""
        wanted = max(RESCORE_LEAST, RESCORE_PER_HIT * k)
        best = await self._runtime.scan(query.block, self._codes, wanted)
        if self._rescores:
            best = await self._rescore(query, [position for position, _ in best])
        chosen: list[int] = []
        chunks: list[ChunkEntry] = []
        # Most often the first candidates hold enough places; the texts of all are read only where they do not.
        for reach in (2 * k, len(best)):
            chunks = await asyncio.gather(*(self._chunk(position) for position, _ in best[:reach]))
            chosen, rest = group([(chunk.page, chunk.anchor) for chunk in chunks])
            if len(chosen) >= k or reach >= len(best):
                chosen = (chosen + rest)[:k]
                break
        return [self._hit(chunks[rank], best[rank][1]) for rank in chosen]

    async def _rescore(self, query: Embeddings, positions: Sequence[int]) -> list[tuple[int, float]]:
        """(position, cosine at full size), best first. Reads only the shards that hold one of `positions`."""
        among: dict[int, list[int]] = {}
        for position in sorted(positions):
            among.setdefault(_run_of(self.manifest.shards, position), []).append(position)
        loaded = await asyncio.gather(*(self._full.get(number) for number in among))
        scored: list[tuple[int, float]] = []
        for (number, inside), codes in zip(among.items(), loaded, strict=True):
            first = self.manifest.shards[number].first
            found = await self._runtime.scan(
                query.block, codes, len(inside), full=True, among=[position - first for position in inside]
            )
            scored += [(first + position, score) for position, score in found]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))

    async def _load_full(self, number: int) -> Codes:
        return await self._runtime.load_codes([self.manifest.shards[number].full], self.manifest.full_dim)

    async def _load_texts(self, number: int) -> list[ChunkEntry]:
        run = self.manifest.texts[number]
        return parse_texts(await self._runtime.read(run.ref), run.count, len(self.pages))

    async def _chunk(self, position: int) -> ChunkEntry:
        number = _run_of(self.manifest.texts, position)
        return (await self._texts.get(number))[position - self.manifest.texts[number].first]

    def _hit(self, chunk: ChunkEntry, score: float) -> Hit:
        page = self.pages.pages[chunk.page]
        url = f"{page.url}#{chunk.anchor}" if chunk.anchor else page.url
        return Hit(url, page.title, chunk.heading, chunk.text, score)


def group(places: Sequence[tuple[int, str]]) -> tuple[list[int], list[int]]:
    """Which of the candidates to show first, and the others; both as ranks, in order.

    `places`: (page, anchor) of each candidate, best first. A page gives at most `HITS_PER_PAGE`, of different anchors.
    """
    chosen: list[int] = []
    rest: list[int] = []
    taken: dict[int, set[str]] = {}
    for rank, (page, anchor) in enumerate(places):
        anchors = taken.setdefault(page, set())
        if len(anchors) < HITS_PER_PAGE and anchor not in anchors:
            anchors.add(anchor)
            chosen.append(rank)
        else:
            rest.append(rank)
    return chosen, rest


def _run_of(runs: Sequence[Shard | Texts], position: int) -> int:
    """Which of the runs holds a position: they follow each other without a gap."""
    return bisect_right(runs, position, key=lambda run: run.first) - 1


class _Loaded(Generic[T]):
    """Loads each thing once and keeps it; who asks meanwhile waits for the same load. A failed load is tried again."""

    def __init__(self, load: Callable[[int], Awaitable[T]]) -> None:
        self._load = load
        self._tasks: dict[int, asyncio.Future[T]] = {}

    async def get(self, key: int) -> T:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.ensure_future(self._load(key))
            task.add_done_callback(lambda done: self._forget_failed(key, done))
        return await asyncio.shield(task)  # a caller that gives up does not end the load for the others

    def _forget_failed(self, key: int, task: asyncio.Future[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._tasks[key]
