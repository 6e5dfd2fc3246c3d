"""What the worker of the page calls. See web/src/worker.ts.

Every function returns at once and ends by its `call` (web/src/host.ts): `resolve(value)`, or `reject(code, name,
message)`, and `progress(done, total)` between. So no exception and no future crosses to JS.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Coroutine
from typing import Any

from insitu.collection.calls import Calls
from insitu.embedder import Embedder
from insitu.errors import Aborted, InsituError, RuntimeUnavailable
from insitu.index.format import IndexManifest
from insitu.index.search import Index
from insitu.model.lock import ModelLock
from insitu.runtime.web import WebBlock, WebRuntime, transfer


def check(call: Any, manifest: Any) -> None:
    """Refuse an index.json that this release does not read, by its named error."""
    _run(call, _check(manifest.to_bytes()))


def start(call: Any, host: Any, lock: Any, manifest: Any) -> None:
    """Resolves to a `Bridge`. `lock`: the bytes of model.lock.json; `manifest`: those of index.json, or None."""
    _run(call, _open(host, lock.to_bytes(), None if manifest is None else manifest.to_bytes()))


class Bridge:
    """The opened model and index. `id` names a call, for `cancel`."""

    def __init__(self, embedder: Embedder, index: Index | None, collections: Calls) -> None:
        self.count = 0 if index is None else index.manifest.count
        self._embedder = embedder
        self._index = index
        self._collections = collections
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def auto(self) -> str:
        """What `dim: "auto"` chose last, [dim, reason], or null: JSON."""
        return json.dumps(self._embedder.auto)

    def embed(self, call: Any, id: int, texts: Any, task: str, dim: int | str | None) -> None:
        """Resolves to [block, truncated]."""
        self._start(id, call, self._embed(texts.to_py(), task, dim, call.progress))

    def search(self, call: Any, id: int, query: str, k: int) -> None:
        """Resolves to the hits, as JSON."""
        self._start(id, call, self._search(query, k))

    def collection(self, call: Any, id: int, name: str, act: str, given: str) -> None:
        """Resolves to what the call on a collection gives, as JSON. See `insitu.collection.calls`."""
        self._start(id, call, self._collections.call(name, act, given, call.progress))

    def export(self, call: Any, id: int, name: str, write: Any) -> None:
        """`write` (a JS function) gets the pieces of the file of a collection, in order."""
        work = self._collections.export(name, lambda piece: write(transfer(piece)), call.progress)
        self._start(id, call, work)

    def restore(self, call: Any, id: int, name: str, file: Any) -> None:
        """Replace a collection by the export in `file` (a JS object: `size`, `read(start, end)`)."""

        async def read(start: int, count: int) -> bytes:
            return bytes((await file.read(start, start + count)).to_bytes())

        self._start(id, call, self._collections.restore(name, read, file.size, call.progress))

    def cancel(self, id: int) -> None:
        """End a call, between two batches. A call that has ended is none."""
        task = self._tasks.get(id)
        if task is not None:
            task.cancel()

    def _start(self, id: int, call: Any, work: Coroutine[Any, Any, Any]) -> None:
        task = self._tasks[id] = _run(call, work)
        task.add_done_callback(lambda _: self._tasks.pop(id))

    async def _embed(self, texts: list[str], task: str, dim: int | str | None, on_progress: Any) -> Any:
        if dim == "auto" and self._index:
            dim = self._index.manifest.dim
        found = await self._embedder.embed(texts, task=task, dim=dim, on_progress=on_progress)
        assert isinstance(found.block, WebBlock)
        return transfer([found.block.js, list(found.truncated)])

    async def _search(self, query: str, k: int) -> str:
        if self._index is None:
            raise RuntimeUnavailable("No index is open: open() was given a model only. Give it an index to search.")
        return json.dumps([hit.as_dict() for hit in await self._index.search(query, k)], ensure_ascii=False)


async def _check(manifest: bytes) -> None:
    IndexManifest.from_json(manifest)


async def _open(host: Any, lock_bytes: bytes, manifest: bytes | None) -> Any:
    lock = ModelLock.from_json(lock_bytes)
    runtime = WebRuntime(host, lock)
    index = None if manifest is None else await Index.open(runtime, lock, manifest)
    embedder = Embedder(runtime, lock)
    return transfer(Bridge(embedder, index, Calls(embedder, runtime.open_store)))


def _run(call: Any, work: Coroutine[Any, Any, Any]) -> asyncio.Task[None]:
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):  # always so in the page: begin at once, not after a turn of the event loop
        return asyncio.Task(_finish(call, work), loop=loop, eager_start=True)
    return loop.create_task(_finish(call, work))


async def _finish(call: Any, work: Coroutine[Any, Any, Any]) -> None:
    try:
        call.resolve(await work)
    except asyncio.CancelledError:
        call.reject(Aborted.code, "AbortError", "The call was ended by its caller.")
    except InsituError as error:
        call.reject(error.code, type(error).__name__, str(error))
    except Exception as error:
        # A fault of ours: the page gets all that helps to find it.
        call.reject("internal", type(error).__name__, "".join(traceback.format_exception(error)))
