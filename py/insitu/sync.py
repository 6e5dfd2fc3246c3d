"""The synchronous face: the async core, run to its end, with numpy arrays.

It holds no logic of its own. What opens here opens in CPython; in a Pyodide `insitu.notebook` opens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from insitu.collection.collection import WORDS, Collection, Put
from insitu.collection.exchange import export_collection
from insitu.collection.search import Found
from insitu.embedder import Embedder, Progress
from insitu.errors import IndexNotFound, InvalidArgument
from insitu.index.format import ENTRY, IndexManifest
from insitu.index.search import Hit, Index

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Float = NDArray[np.float32]

T = TypeVar("T")


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    try:
        return loop.run_until_complete(work)  # Pyodide's loop can, by JSPI; others refuse
    except RuntimeError as error:
        work.close()
        raise _cannot_wait() from error


def _cannot_wait() -> InvalidArgument:
    return InvalidArgument(
        "An event loop is running here, so this call cannot wait for its result. Await the async face instead: "
        "`await model.embedder.embed([...])`, `await site.index.search(...)`, `await insitu.open_collection(...)`."
    )


class Model:
    """An opened model. `embedder` is its async face."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def encode(self, texts: str | Sequence[str], *, task: str = "document", dim: int | str | None = None) -> Float:
        """Unit vectors: (count, dim) float32 for a list of texts, (dim,) for a single one.

        `dim`: 1 to the model's full size, its default if None, or 'auto'. See `Embedder.embed` for tasks and errors.
        """
        import numpy as np

        result = _run(self.embedder.embed([texts] if isinstance(texts, str) else list(texts), task=task, dim=dim))
        rows = np.frombuffer(result.block.vectors(), "<f4").astype(np.float32).reshape(len(result), result.block.dim)
        first: Float = rows[0] if isinstance(texts, str) else rows
        return first

    def encode_query(self, texts: str | Sequence[str], *, dim: int | str | None = None) -> Float:
        """`encode` with the prompt for questions."""
        return self.encode(texts, task="query", dim=dim)

    def encode_document(self, texts: str | Sequence[str], *, dim: int | str | None = None) -> Float:
        """`encode` with the prompt for passages."""
        return self.encode(texts, task="document", dim=dim)

    @staticmethod
    def similarity(a: ArrayLike, b: ArrayLike) -> Float:
        """Cosines of each row of `a` (n, dim) with each of `b` (m, dim): (n, m) float32. The vectors have length 1."""
        import numpy as np

        left, right = np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32))
        if left.shape[1] != right.shape[1]:
            raise InvalidArgument(
                f"Vectors of {left.shape[1]} and {right.shape[1]} components cannot be compared: encode both "
                "with one dim."
            )
        product: Float = left @ right.T
        return product


class SiteIndex:
    """An opened index of a site. `index` is its async face."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The `k` best passages, best first. See `Index.search`."""
        return _run(self.index.search(query, k))


class OpenedCollection(Collection):
    """What `await insitu.open_collection(...)` gives: what it writes it tidies up, and an export is bytes."""

    async def put(self, documents: Sequence[Mapping[str, Any]], *, on_progress: Progress | None = None) -> Put:
        done = await super().put(documents, on_progress=on_progress)
        await self.tidy()
        return done

    async def delete(self, ids: Sequence[str]) -> int:
        gone = await super().delete(ids)
        if gone:
            await self.tidy()
        return gone

    async def export(self, *, on_progress: Progress | None = None) -> bytes:
        """All of it as one file, which every `import` reads. Raises `CollectionCorrupt`, `WriteFailed`."""
        return b"".join([piece async for piece in export_collection(self.store, on_progress)])

    async def import_(self, file: bytes, *, on_progress: Progress | None = None) -> int:
        """Replace all by an export; how many documents. Raises `ExportCorrupt` and others, with nothing changed."""

        async def read(start: int, count: int) -> bytes:
            return file[start : start + count]

        return await self.restore(read, len(file), on_progress=on_progress)

    def close(self) -> None:
        self.store.close()


class FolderCollection:
    """An opened collection in a folder. `collection` is its async face, which is also what `await` gives."""

    def __init__(self, opening: Coroutine[Any, Any, OpenedCollection]) -> None:
        self._opening = opening
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._collection: OpenedCollection | None = asyncio.run(opening)
        else:
            self._collection = None  # whoever opens it here awaits it

    def __await__(self) -> Generator[Any, None, OpenedCollection]:
        if self._collection is None:
            self._collection = yield from self._opening.__await__()
        return self._collection

    @property
    def collection(self) -> OpenedCollection:
        if self._collection is None:
            raise _cannot_wait()
        return self._collection

    def put(self, documents: Sequence[Mapping[str, Any]], *, on_progress: Progress | None = None) -> Put:
        """Add or replace documents `{"id", "text", "title", "fields"}`. See `Collection.put`."""
        return _run(self.collection.put(documents, on_progress=on_progress))

    def delete(self, ids: Sequence[str]) -> int:
        """Take documents away; how many there were."""
        return _run(self.collection.delete(ids))

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        where: object = None,
        words: float = WORDS,
        exact: bool = False,
    ) -> list[Found]:
        """The `k` best documents, each with its best passage. See `Collection.search`."""
        return _run(self.collection.search(query, k, where=where, words=words, exact=exact))

    def stats(self) -> dict[str, Any]:
        """What is there. See `Collection.stats`."""
        return _run(self.collection.stats())

    def export(self) -> bytes:
        """All of it as one file. See `export_file`."""
        return _run(self.collection.export())

    def import_(self, file: bytes) -> int:
        """Replace all by an export; how many documents. See `import_file`."""
        return _run(self.collection.import_(file))

    def export_file(self, path: str | Path, *, passphrase: str | None = None) -> None:
        """Write all to one file, which the page imports too; sealed if a passphrase is given (the extra `sealed`).

        Raises `CollectionCorrupt`, `WriteFailed`, `DiskFull`.
        """
        from insitu.collection.files import write_export

        _run(write_export(self.collection.store, Path(path), passphrase))

    def import_file(self, path: str | Path, *, passphrase: str | None = None) -> int:
        """Replace all by an export; how many documents. Raises `ExportCorrupt` and others, with nothing changed."""
        from insitu.collection.files import source_of

        return _run(self.collection.restore(*source_of(Path(path), passphrase)))

    def reembed(
        self,
        model: str | None = None,
        variant: str = "int8",
        *,
        dim: int | str | None = None,
        rescore: bool | int = False,
        threads: int = 0,
        on_progress: Progress | None = None,
    ) -> None:
        """Have another model, or the same with another `dim` or `rescore`, embed all texts anew.

        It answers in its old space until the new one is complete. What was embedded before this was killed is kept.
        """
        embedder = None if model is None else open_model(model, variant, threads=threads).embedder
        _run(self.collection.reembed(embedder, dim=dim, rescore=rescore, on_progress=on_progress))
        _run(self.collection.tidy())

    def close(self) -> None:
        self.collection.store.close()


def open_collection(
    folder: str | Path,
    *,
    model: str = "minilm-l6",
    variant: str = "int8",
    fields: Mapping[str, str] | None = None,
    dim: int | str | None = None,
    rescore: bool | int = False,
    reembed: bool = False,
    threads: int = 0,
) -> FolderCollection:
    """Open the collection in `folder`, made if it is not there. See `Collection.open` for the options and errors."""
    from insitu.collection.folder import FolderStore  # SQLite, which some builds of Python lack

    embedder = open_model(model, variant, threads=threads).embedder
    store = FolderStore(Path(folder))
    opening = OpenedCollection.open(embedder, store, fields=fields, dim=dim, rescore=rescore, reembed=reembed)
    return FolderCollection(opening)


def open_model(name: str = "minilm-l6", variant: str = "int8", *, threads: int = 0) -> Model:
    """Open a model, fetched and exported first where it is not there yet. See `insitu.model.ensure` for errors."""
    from insitu.model import ensure
    from insitu.runtime.native import NativeRuntime

    runtime = NativeRuntime.open(ensure(name, variant), threads=threads)
    return Model(Embedder(runtime, runtime.lock))


def open_index(folder: str | Path, *, threads: int = 0) -> SiteIndex:
    """Open the index in `folder`, or in `folder`/insitu, with the model that lies beside it (else the installed one).

    Raises `IndexNotFound`, `IndexVersion`, `IndexCorrupt`, `SpaceMismatch`, and what opening a model raises.
    """
    from insitu.runtime.native import NativeRuntime

    place = find_index(Path(folder))
    data = (place / ENTRY).read_bytes()
    manifest = IndexManifest.from_json(data)
    beside = place / manifest.model
    if manifest.model and beside.is_file():
        model_dir = beside.parent
    else:
        from insitu.model import ensure

        name, variant = (*manifest.space.split(":"), "")[:2]
        model_dir = ensure(name, variant)
    runtime = NativeRuntime.open(model_dir, index_dir=place, threads=threads)
    return SiteIndex(_run(Index.open(runtime, runtime.lock, data)))


def find_index(folder: Path) -> Path:
    """The folder that holds index.json: `folder` or `folder`/insitu. Raises `IndexNotFound`."""
    for place in (folder, folder / "insitu"):
        if (place / ENTRY).is_file():
            return place
    raise IndexNotFound(f"There is no index in {folder} or {folder / 'insitu'}. Make one: insitu index {folder}")
