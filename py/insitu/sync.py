"""The synchronous face for CPython: the async core, run to its end, with numpy arrays.

It holds no logic of its own. In a page or a notebook page, await the async names instead (`insitu.Embedder`,
`insitu.Index`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu.collection.collection import WORDS, Collection, Found, Put
from insitu.embedder import Embedder, Progress
from insitu.errors import IndexNotFound, InvalidArgument
from insitu.index.format import ENTRY, IndexManifest
from insitu.index.search import Hit, Index
from insitu.runtime.native import NativeRuntime

T = TypeVar("T")
Float = NDArray[np.float32]


class Model:
    """An opened model. `embedder` is its async face."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def encode(self, texts: str | Sequence[str], *, task: str = "document", dim: int | None = None) -> Float:
        """Unit vectors: (count, dim) float32 for a list of texts, (dim,) for a single one.

        `dim`: 1 to the model's full size, its default if None. See `Embedder.embed` for tasks and errors.
        """
        single = isinstance(texts, str)
        result = _run(self.embedder.embed([texts] if isinstance(texts, str) else list(texts), task=task, dim=dim))
        rows = np.frombuffer(result.block.vectors(), "<f4").astype(np.float32).reshape(len(result), result.block.dim)
        first: Float = rows[0] if single else rows
        return first

    def encode_query(self, texts: str | Sequence[str], *, dim: int | None = None) -> Float:
        """`encode` with the prompt for questions."""
        return self.encode(texts, task="query", dim=dim)

    def encode_document(self, texts: str | Sequence[str], *, dim: int | None = None) -> Float:
        """`encode` with the prompt for passages."""
        return self.encode(texts, task="document", dim=dim)

    @staticmethod
    def similarity(a: ArrayLike, b: ArrayLike) -> Float:
        """Cosines of each row of `a` (n, dim) with each of `b` (m, dim): (n, m) float32. The vectors have length 1."""
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


class FolderCollection:
    """An opened collection in a folder. `collection` is its async face."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def put(self, documents: Sequence[Mapping[str, Any]], *, on_progress: Progress | None = None) -> Put:
        """Add or replace documents `{"id", "text", "title", "fields"}`. See `Collection.put`."""
        done = _run(self.collection.put(documents, on_progress=on_progress))
        _run(self.collection.tidy())
        return done

    def delete(self, ids: Sequence[str]) -> int:
        """Take documents away; how many there were."""
        gone = _run(self.collection.delete(ids))
        _run(self.collection.tidy())
        return gone

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
        dim: int | None = None,
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
    dim: int | None = None,
    rescore: bool | int = False,
    reembed: bool = False,
    threads: int = 0,
) -> FolderCollection:
    """Open the collection in `folder`, made if it is not there. See `Collection.open` for the options and errors."""
    from insitu.collection.folder import FolderStore  # SQLite, which some builds of Python lack

    embedder = open_model(model, variant, threads=threads).embedder
    store = FolderStore(Path(folder))
    return FolderCollection(
        _run(Collection.open(embedder, store, fields=fields, dim=dim, rescore=rescore, reembed=reembed))
    )


def open_model(name: str = "minilm-l6", variant: str = "int8", *, threads: int = 0) -> Model:
    """Open a model, fetched and exported first where it is not there yet. See `insitu.model.ensure` for errors."""
    from insitu.model import ensure

    runtime = NativeRuntime.open(ensure(name, variant), threads=threads)
    return Model(Embedder(runtime, runtime.lock))


def open_index(folder: str | Path, *, threads: int = 0) -> SiteIndex:
    """Open the index in `folder`, or in `folder`/insitu, with the model that lies beside it (else the installed one).

    Raises `IndexNotFound`, `IndexVersion`, `IndexCorrupt`, `SpaceMismatch`, and what opening a model raises.
    """
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


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise InvalidArgument(
        "An event loop is running here, so this call cannot wait for its result. Await the async face instead: "
        "`await model.embedder.embed([...])`, `await site.index.search(...)`."
    )
