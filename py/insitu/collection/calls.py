"""The calls of the page on its collections, by name: JSON in, JSON out. See web/src/collections.ts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from insitu.collection.collection import Collection
from insitu.collection.exchange import Read, export_collection, import_collection
from insitu.collection.store import Store
from insitu.embedder import Embedder, Progress
from insitu.errors import InvalidArgument, RuntimeUnavailable

OpenStore = Callable[[str], Awaitable[Store]]


class Calls:
    """The collections that are open, one of each name."""

    def __init__(self, embedder: Embedder, open_store: OpenStore) -> None:
        self._embedder = embedder
        self._open_store = open_store
        self._open: dict[str, Collection] = {}
        self._opening = asyncio.Lock()

    async def call(self, name: str, act: str, given: str, on_progress: Progress) -> str:
        """`act`: open, put, delete, search, stats, tidy. `given`: its arguments, a JSON object."""
        arguments: dict[str, Any] = json.loads(given)
        if act == "open":
            return json.dumps({"made": await self._opened(name, arguments, on_progress)})
        collection = self._open.get(name)
        if collection is None:
            raise RuntimeUnavailable(f"The collection {name!r} is not open here. Open it again.")
        result: Any = None
        if act == "put":
            done = await collection.put(arguments["documents"], on_progress=on_progress)
            result = {"embedded": done.embedded, "unchanged": done.unchanged, "passages": done.passages}
        elif act == "delete":
            result = await collection.delete(arguments["ids"])
        elif act == "search":
            options = {name: arguments[name] for name in ("where", "words", "exact") if name in arguments}
            hits = await collection.search(arguments.get("query"), arguments["k"], **options)
            result = [hit.as_dict() for hit in hits]
        elif act == "stats":
            result = await collection.stats()
        elif act == "tidy":
            await collection.tidy()
        return json.dumps(result)

    async def export(self, name: str, write: Callable[[bytes], None], on_progress: Progress) -> None:
        """`write` gets the pieces of the file, in order."""
        if name not in self._open:
            raise RuntimeUnavailable(f"The collection {name!r} is not open here. Open it again.")
        async for piece in export_collection(self._open[name].store, on_progress):
            write(piece)

    async def restore(self, name: str, read: Read, size: int, on_progress: Progress) -> None:
        """Put an export in place of the collection, which is made if it is not there. Then it is open."""
        async with self._opening:
            known = self._open.get(name)
            store = known.store if known else await self._open_store(name)
            await import_collection(self._embedder, store, read, size, on_progress)
            self._open[name] = await Collection.open(self._embedder, store)

    async def _opened(self, name: str, options: dict[str, Any], on_progress: Progress) -> bool:
        """Whether it was made by this."""
        unknown = [key for key in options if key not in ("fields", "dim", "rescore", "reembed")]
        if unknown:
            known = "fields, dim, rescore, reembed, onProgress and signal"
            raise InvalidArgument(f"collection() has no option {unknown[0]!r}; it has {known}.")
        if (opened := self._open.get(name)) is not None:
            await opened.require(**options, on_progress=on_progress)
            return False
        async with self._opening:
            store = await self._open_store(name)
            made = await store.meta() is None
            self._open[name] = await Collection.open(self._embedder, store, **options, on_progress=on_progress)
            return made
