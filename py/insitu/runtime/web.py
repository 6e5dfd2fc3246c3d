"""The runtime of the page: onnxruntime-web, a JS tokenizer, the WASM scan kernel. The only module that imports pyodide.

`host` is the object of web/src/host.ts. Vectors stay in JS and WASM memory: a block or codes are handles here.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from pyodide.ffi import JsException, create_proxy, to_js

from insitu import __version__, errors
from insitu.collection.columns import Column, Columns
from insitu.collection.store import Change, Committed, Entry, Meta, News, Passage, Stored
from insitu.errors import InsituError, RuntimeUnavailable
from insitu.model.lock import ModelLock
from insitu.runtime import Batching, Block, Codes, FileRef, Passing, TokenIds
from insitu.text.words import VERSION

_BY_CODE: Mapping[str, type[InsituError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InsituError)
}


class WebBlock:
    """See `insitu.runtime.Block`. `js` is the block of web/src/block.ts."""

    def __init__(self, js: Any, count: int, dim: int) -> None:
        self.js = js
        self.count = count
        self.dim = dim

    def vectors(self) -> bytes:
        return bytes(self.js.vectorBytes().to_bytes())

    def codes(self) -> bytes:
        return bytes(self.js.codeBytes(False).to_bytes())

    def full_codes(self) -> bytes:
        return bytes(self.js.codeBytes(True).to_bytes())


class WebCodes:
    """See `insitu.runtime.Codes`. `js` holds addresses in the memory of the kernel (web/src/scan.ts)."""

    def __init__(self, js: Any, dim: int) -> None:
        self.js = js
        self.dim = dim

    @property
    def count(self) -> int:
        return int(self.js.count)


class WebRuntime:
    """One model, opened in JS. See `insitu.runtime.Runtime`."""

    def __init__(self, host: Any, lock: ModelLock) -> None:
        self.lock = lock
        self._host = host

    @property
    def batching(self) -> Batching:
        # The encoder of the page pads nothing, and each of its threads embeds texts of its own.
        threads = min(self._host.threads, 4)
        return Batching(512 * threads, None) if threads else Batching()

    @property
    def runs_on(self) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads(self._host.runsOn)
        return found

    async def tokenize(self, texts: Sequence[str], limit: int | None = None) -> TokenIds:
        with _named_errors():
            found = self._host.tokenize(to_js(list(texts)), limit or 0)
            ids = array("i", found.ids.to_bytes())
            return TokenIds(ids, tuple(found.lengths.to_py().tolist()))

    def new_block(self, count: int, dim: int) -> WebBlock:
        return WebBlock(self._host.newBlock(count, dim), count, dim)

    async def forward(self, tokens: TokenIds, block: Block, positions: Sequence[int]) -> None:
        assert isinstance(block, WebBlock)
        lengths, rows = array("i", tokens.lengths), array("i", positions)
        with _named_errors():
            await self._host.forward(to_js(tokens.ids), to_js(lengths), block.js, to_js(rows))

    async def device(self) -> Sequence[float]:
        found: list[float] = (await self._host.device()).to_py()
        return found

    async def read(self, ref: FileRef) -> bytes:
        with _named_errors():
            return bytes((await self._host.read(ref.file, ref.bytes, ref.sha256)).to_bytes())

    async def load_codes(self, refs: Sequence[FileRef], dim: int) -> WebCodes:
        with _named_errors():
            return WebCodes(await self._host.loadCodes(json.dumps([asdict(ref) for ref in refs]), dim), dim)

    async def scan(
        self,
        query: Block,
        codes: Codes,
        k: int,
        *,
        full: bool = False,
        among: Sequence[int] | Passing | None = None,
        exact: bool = False,
    ) -> list[tuple[int, float]]:
        assert isinstance(query, WebBlock) and isinstance(codes, WebCodes)
        with _named_errors():
            if isinstance(among, Passing):
                chosen = self._host.passing(to_js(among.mask), to_js(among.at))
            else:
                chosen = None if among is None else to_js(array("i", among))
            run = self._host.scan(query.js, codes.js, k, full, exact, chosen)
            try:
                positions, scores = run.found or await run.done
            finally:
                run.stop()  # who gave up waits for no more of it
            return list(zip(positions.to_py().tolist(), scores.to_py().tolist(), strict=True))

    def empty_codes(self, dim: int) -> WebCodes:
        return WebCodes(self._host.emptyCodes(dim), dim)

    def append(self, codes: Codes, part: Any) -> None:
        assert isinstance(codes, WebCodes)
        codes.js.append(part)

    def bury(self, codes: Codes, positions: Sequence[int]) -> None:
        assert isinstance(codes, WebCodes)
        codes.js.bury(to_js(array("i", positions)))

    async def rescore(self, query: Block, rows: bytes) -> list[float]:
        assert isinstance(query, WebBlock)
        scores: list[float] = self._host.rescore(query.js, to_js(rows)).to_py().tolist()
        return scores

    async def open_store(self, name: str) -> WebStore:
        """The store of the collection `name`. Raises `StorageUnavailable`, `CollectionVersion`."""
        with _named_errors():
            return WebStore(await self._host.openStore(name), self._host)


class WebStore:
    """One collection in IndexedDB. See `insitu.collection.store.Store`. `js` is that of web/src/collection_store.ts."""

    def __init__(self, js: Any, host: Any) -> None:
        self._js = js
        self._host = host

    async def words(self) -> WebWords:
        with _named_errors():
            return WebWords(await self._host.openWords(self._js, VERSION))

    async def meta(self) -> Meta | None:
        with _named_errors():
            found = await self._js.meta()
        return Meta.of(json.loads(found)) if found else None

    async def declare(self, meta: Meta) -> None:
        with _named_errors():
            await self._js.declare(json.dumps(asdict(meta)))

    def changed(self) -> bool:
        return bool(self._js.changed())

    async def news(self, epoch: int, rows: int, changes: int) -> News:
        with _named_errors():
            found = await self._js.news(epoch, rows, changes)
        meta = Meta.of(json.loads(found.meta))
        numbers, dead = _uint32(found.numbers), _uint32(found.dead)
        return News(meta, found.reset, list(found.parts), numbers, dead, list(found.damaged))

    async def find(self, ids: Sequence[str]) -> list[Entry | None]:
        with _named_errors():
            found = json.loads(await self._js.find(json.dumps(ids)))
        return [item and Entry(*item) for item in found]

    async def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        with _named_errors():
            found = json.loads(await self._js.texts(to_js(array("i", numbers))))
        return [item and Stored(*item) for item in found]

    async def passages(self, places: Sequence[tuple[int, int]], revision: int) -> list[Passage | None]:
        asked = _pairs(places)
        with _named_errors():
            # What is in memory comes at once: a turn of the event loop less.
            found = self._js.held(asked, revision) or await self._js.passages(asked, revision)
        return [item and Passage(*item) for item in json.loads(found)]

    async def full(self, rows: Sequence[tuple[int, int]]) -> bytes | None:
        with _named_errors():
            found = await self._js.full(_pairs(rows))
        return None if found is None else bytes(found.to_bytes())

    async def columns(self, names: Sequence[str], rows: array[int]) -> Columns:
        with _named_errors():
            found = await self._js.columns(json.dumps(names), to_js(rows))
        parts = zip(json.loads(found.values), found.ranks, strict=True)
        columns = [Column(values, _uint32(ranks)) for values, ranks in parts]
        return Columns(_uint32(found.numbers), _uint32(found.at), dict(zip(names, columns, strict=True)))

    async def commit(self, change: Change, codes: bytes, full: bytes) -> Committed:
        with _named_errors():
            done = await self._js.commit(json.dumps(asdict(change)), to_js(codes), to_js(full))
        return Committed(*json.loads(done))

    async def fold(self, firsts: Sequence[int]) -> None:
        with _named_errors():
            await self._js.fold(to_js(array("i", firsts)))

    async def compact(self) -> None:
        with _named_errors():
            await self._js.compact()

    async def segment(self, first: int) -> tuple[bytes, array[int]]:
        with _named_errors():
            found = await self._js.segment(first)
        return bytes(found.shard.to_bytes()), _uint32(found.numbers)

    async def stage(self, meta: Meta, keep: bool = False) -> None:
        with _named_errors():
            await self._js.stage(json.dumps(asdict(meta)), keep)

    async def commit_next(self, change: Change, codes: bytes, full: bytes) -> None:
        with _named_errors():
            await self._js.commitNext(json.dumps(asdict(change)), to_js(codes), to_js(full))

    async def swap(self, follow: bool, lost: Sequence[int] = ()) -> Sequence[int]:
        with _named_errors():
            return _uint32(await self._js.swap(follow, to_js(array("i", lost))))

    async def unstage(self) -> None:
        with _named_errors():
            await self._js.unstage()

    def staging(self) -> AbstractAsyncContextManager[None]:
        return self._locked(" next")

    def writing(self) -> AbstractAsyncContextManager[None]:
        return self._locked("")

    @asynccontextmanager
    async def _locked(self, what: str) -> AsyncIterator[None]:
        lock = self._js.lock(what)
        try:
            await lock.ready
            yield
        finally:
            lock.release()

    async def room(self) -> int | None:
        found = await self._js.room()
        return None if found is None else int(found)

    async def about(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self._js.about())
        return found

    def close(self) -> None:
        self._js.close()


class WebWords:
    """See `insitu.collection.words.WordIndex`. `js` is that of web/src/words.ts."""

    def __init__(self, js: Any) -> None:
        self._js = js

    async def numbers(self) -> array[int]:
        return _uint32(self._js.numbers())

    async def add(self, documents: Sequence[tuple[int, Sequence[str]]]) -> None:
        self._js.add(json.dumps(documents))

    async def remove(self, numbers: Sequence[int]) -> None:
        self._js.remove(to_js(array("I", numbers)))

    async def count(self, terms: Sequence[str]) -> list[int]:
        counts: list[int] = self._js.count(" ".join(terms)).to_py().tolist()
        return counts

    async def find(self, terms: Sequence[str], k: int, among: Sequence[int] | None) -> list[tuple[int, int]]:
        chosen = () if among is None else (to_js(array("I", among)),)
        found = [int(part) for part in self._js.find(" ".join(terms), k, *chosen).to_py()]
        return list(zip(found[::2], found[1::2], strict=True))


def _pairs(places: Sequence[tuple[int, int]]) -> Any:
    return to_js(array("i", [part for place in places for part in place]))


def _uint32(js: Any) -> array[int]:
    return array("I", js.to_bytes())


def transfer(value: object) -> Any:
    """`value` as JS has it: lists and bytes become arrays; handles their JS objects; else a proxy that JS destroys."""
    return to_js(value) if isinstance(value, (list, str, bytes)) else create_proxy(value)


async def open_runtime(assets: str, model: str, index: str, threads: int) -> tuple[WebRuntime, bytes]:
    """The runtime of a model in a Pyodide of the user's own, and the entry of the index. See web/src/notebook.ts."""
    from js import URL, location
    from pyodide.code import run_js

    here = location.href.removeprefix("blob:")  # of which some notebooks make their worker

    def at(url: str) -> str:
        return str(URL.new(url, here).href) if url else ""

    script = f"{assets}notebook.js"
    try:
        script = at(script)
        module = await run_js("(url) => import(url)")(script)  # the one thing that Python cannot say
        release = module.version
    except (JsException, AttributeError) as error:
        raise RuntimeUnavailable(
            f"{script} cannot be loaded ({error}). Serve the web files of insitu {__version__} there, or name their "
            "folder: insitu.configure(assets=URL)."
        ) from None
    if release != __version__:
        raise RuntimeUnavailable(f"{script} is of insitu {release}, this is {__version__}. Take both of one release.")
    with _named_errors():
        opened = await module.openHost(at(assets), at(model), at(index), threads)
    lock = ModelLock.from_json(opened.lock.to_bytes())
    return WebRuntime(opened.host, lock), bytes(opened.index.to_bytes()) if index else b""


@contextmanager
def _named_errors() -> Iterator[None]:
    """An error that JS raised on purpose is raised as the Python class of its code."""
    try:
        yield
    except JsException as error:
        kind = _BY_CODE.get(getattr(error, "code", ""))
        if kind is None:
            raise
        raise kind(error.message) from None
