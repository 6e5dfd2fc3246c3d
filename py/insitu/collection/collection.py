"""A collection: documents that come, change and go, and are found by meaning and by their fields.

Every put and delete is one commit of the store, or several for many documents; after a crash each of them happened or
did not. In memory are the codes of all rows, the number of each row's document and, once a filter was used, the
fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from insitu.collection.documents import Document, check_documents, check_fields, check_ids
from insitu.collection.embed import embed_documents
from insitu.collection.embed import reembed as embed_anew
from insitu.collection.exchange import Read, import_collection
from insitu.collection.fuse import check_weight
from insitu.collection.memory import Memory
from insitu.collection.search import Found, Searcher
from insitu.collection.store import RESERVED, Change, Meta, Store
from insitu.collection.where import check_where
from insitu.embedder import Embedder, Progress
from insitu.errors import DiskFull, EmptyQuery, InvalidArgument, SpaceMismatch

# Documents of one commit. A batch of texts of mixed length fills the model's batches well, and what a crash can cost is
# the embedding of so many.
COMMIT_DOCUMENTS = 128
# Half a megabyte of codes at 128: what one small put may have to write again when the tail is folded.
SEGMENT_ROWS = 4096
# Each commit is a segment of its own until so many of them are joined.
TAIL_SEGMENTS = 32
# Dead rows are scanned like others: from this share on (and this many) all is written again without them.
DEAD_SHARE, DEAD_LEAST = 0.25, 64
# More hits than anybody reads; the scan's list of candidates is kept by insertion and is made for thousands.
MOST_HITS = 1000
# What words weigh when nobody says it.
WORDS = 0.0
DEFAULT_DIM = 128


@dataclass(frozen=True)
class Put:
    """What a put did: documents `embedded`, those whose text was there already (`unchanged`), passages embedded."""

    embedded: int
    unchanged: int
    passages: int


class Collection:
    """An opened collection. Async; calls may overlap: each search answers from one state of the collection."""

    def __init__(self, embedder: Embedder, store: Store, meta: Meta) -> None:
        self.embedder = embedder
        self.store = store
        self._auto = ""
        self._held = Memory(embedder.runtime, store, meta)
        self._searcher = Searcher(embedder, store, self._held)

    @property
    def meta(self) -> Meta:
        """The record of the collection, as it was last read."""
        return self._held.meta

    @classmethod
    async def open(
        cls,
        embedder: Embedder,
        store: Store,
        *,
        fields: Mapping[str, str] | None = None,
        dim: int | str | None = None,
        rescore: bool | int = False,
        reembed: bool = False,
        on_progress: Progress | None = None,
    ) -> Self:
        """Open the collection of `store`, made if it is not there.

        `fields`: name to 'keyword' or 'number'; those of an older opening stay, new ones are added. `dim`: components
        of the scanned vectors (128, or the model's full size if that is less); `auto`: what suits this device when the
        collection is made, and what it has ever after. `rescore`: keep codes at full size
        too, and let these decide among the best. `reembed`: if its vectors are of another space, or of another `dim`
        or `rescore`, have this model embed all texts anew first; `on_progress` is told of that (documents done, in
        all), and whoever has it open searches as before meanwhile. Raises `InvalidArgument`, `DimUnsupported`,
        `SpaceMismatch`, `CollectionVersion`, `StorageUnavailable`.
        """
        lock = embedder.lock
        declared = check_fields(fields)
        meta = await store.meta()
        auto = ""
        if meta is None:
            wanted = min(DEFAULT_DIM, lock.full_dim) if dim is None else dim
            if dim == "auto":
                wanted, auto = await embedder.choose_dim(await store.room())
            size = lock.check_dim(wanted)
            cls._check_rescore(embedder, rescore)
            await store.declare(Meta(lock.space(size).name, size, lock.full_dim if rescore else 0, declared))
            meta = await store.meta()  # another tab may have been first
            assert meta is not None
        found = cls(embedder, store, meta)
        found._auto = auto
        await found.require(fields=fields, dim=dim, rescore=rescore, reembed=reembed, on_progress=on_progress)
        return found

    async def require(
        self,
        *,
        fields: Mapping[str, str] | None = None,
        dim: int | str | None = None,
        rescore: bool | int = False,
        reembed: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        """What `open` does with a collection that is there: refuse another one, add new fields, read the vectors."""
        lock = self.embedder.lock
        declared = check_fields(fields)
        self._check_rescore(self.embedder, rescore)
        meta = await self.store.meta() or self.meta
        size = lock.check_dim(min(meta.dim, lock.full_dim) if dim in (None, "auto") else dim)
        space, full = lock.space(size).name, lock.full_dim if rescore or meta.full else 0
        if reembed and (meta.space, meta.full) != (space, full):
            target = Meta(space, size, full, meta.fields, next=meta.next + RESERVED)
            await embed_anew(self.embedder, self.store, target, on_progress)
            meta = await self.store.meta() or target
        if not lock.space(min(meta.dim, lock.full_dim)).asks(meta.space):
            raise SpaceMismatch(
                f"The collection holds vectors of the space {meta.space!r}, but the open model makes {space!r}. "
                "Open the model that made it, or have this one embed its texts anew: open it with `reembed`."
            )
        if size != meta.dim:
            raise InvalidArgument(
                f"dim {dim}: the collection was made with {meta.dim}. Leave it out, or add `reembed`."
            )
        if full != meta.full:
            raise InvalidArgument("rescore: the collection was made without. Leave it out, or add `reembed`.")
        if meta.space != self.meta.space or meta.full != self.meta.full:
            self._held.forget(meta)
        for name, kind in declared.items():
            if meta.fields.get(name, kind) != kind:
                raise InvalidArgument(f"fields: {name!r} is {meta.fields[name]!r} here, not {kind!r}.")
        if declared.keys() - meta.fields.keys():
            await self.store.declare(replace(meta, fields={**meta.fields, **declared}))
        await self._held.refresh(again=True)

    @staticmethod
    def _check_rescore(embedder: Embedder, rescore: bool | int) -> None:
        size = embedder.lock.full_dim
        if rescore not in (False, True, size):
            raise InvalidArgument(f"rescore: {rescore!r}. The model's full size is {size}; write that, or true.")

    # --- writing -------------------------------------------------------------------------------------------------

    async def put(self, documents: Sequence[Mapping[str, Any]], *, on_progress: Progress | None = None) -> Put:
        """Add documents `{id, text, title, fields}`; one whose id is there is replaced.

        All are checked first: after `InvalidDocument` nothing has changed. Up to 128 documents are one commit: vectors,
        texts and fields together. More are several, in order; what was committed before an error, an abort or a crash
        stays, and putting all again goes on from there: a text that did not change is not embedded again, its fields
        are brought up to date. `on_progress`: (documents done, in all). Raises `DiskFull`.
        """
        checked = check_documents(documents, self.meta.fields)
        await self._check_room(checked)
        embedded = passages = 0
        for start in range(0, len(checked), COMMIT_DOCUMENTS):
            batch = checked[start : start + COMMIT_DOCUMENTS]
            async with self.store.writing():
                fresh, rows = await self._put(batch, start, len(checked), on_progress)
            embedded += fresh
            passages += rows
            if on_progress is not None:
                on_progress(start + len(batch), len(checked))
        return Put(embedded, len(checked) - embedded, passages)

    async def delete(self, ids: Sequence[str]) -> int:
        """Take documents away, in one commit; how many there were. An id that is not there is none."""
        checked = check_ids(ids)
        if not checked:
            return 0
        async with self.store.writing():
            done = await self.store.commit(Change(delete=checked), b"", b"")
        await self._held.refresh(own=done.revision)
        return done.deleted

    async def tidy(self) -> None:
        """Join small segments; write all again where much is dead. Nothing that anybody sees changes."""
        await self._held.refresh()
        while self._is_sparse() or self._to_fold():
            segments = self.meta.segments
            async with self.store.writing():
                await self._held.refresh(again=True)
                if self._is_sparse():
                    await self.store.compact()
                elif run := self._to_fold():
                    await self.store.fold(run)
            await self._held.refresh(again=True)
            if self.meta.segments == segments:
                return

    def _is_sparse(self) -> bool:
        if self._held.damaged:
            return not self._held.missing()  # its documents have been put again
        return self.meta.dead >= max(DEAD_LEAST, DEAD_SHARE * self.meta.rows)

    def _to_fold(self) -> list[int]:
        """Neighbours that make up a whole segment, the oldest first, or many small ones."""
        run: list[int] = []
        rows = 0
        for first, count in self.meta.segments:
            if count >= SEGMENT_ROWS or first in self._held.damaged:
                run, rows = [], 0
                continue
            run.append(first)
            rows += count
            if len(run) > 1 and rows >= SEGMENT_ROWS:
                return run
        return run if len(run) >= TAIL_SEGMENTS else []

    async def _put(
        self, batch: Sequence[Document], before: int, total: int, on_progress: Progress | None
    ) -> tuple[int, int]:
        await self._held.refresh(again=True)  # the lock may be quicker than the news
        put: list[Document] = []
        touch: list[tuple[str, Mapping[str, Any]]] = []
        hashes = {document.id: document.hash for document in batch}
        entries = await self.store.find([document.id for document in batch])
        for document, entry in zip(batch, entries, strict=True):
            # A number without rows: its segment was damaged. Embedding the text again is the repair.
            if entry is None or entry.hash != hashes[document.id] or not self._held.rows(entry.number):
                put.append(document)
            elif dict(entry.fields) != document.fields:
                touch.append((document.id, document.fields))
        if not put and not touch:
            return 0, 0

        def progress(done: int, of: int) -> None:
            if on_progress is not None and done < of:
                on_progress(before + len(batch) * done // of, total)

        meta = self.meta
        own = self.embedder.lock.space(meta.dim).name
        if put and own != meta.space:
            raise SpaceMismatch(
                f"The collection holds vectors of the space {meta.space!r}, which the open model may ask, but it makes "
                f"{own!r}. Put with the variant that made them, or open the collection with `reembed`."
            )
        change, codes, full = await embed_documents(self.embedder, put, hashes, meta, progress)
        change = replace(change, touch=touch)
        done = await self.store.commit(change, codes, full)
        known = {document.id: entry.number for document, entry in zip(batch, entries, strict=True) if entry}
        self._held.keep_fields(done, change, known)
        await self._held.refresh(own=done.revision)
        return len(put), sum(item["rows"] for item in change.put)

    async def _check_room(self, documents: Sequence[Document]) -> None:
        """A put that cannot fit is refused before anything is embedded. Counted is the least that it will take."""
        room = await self.store.room()
        wanted = sum(document.size for document in documents)
        if room is not None and wanted > room:
            raise DiskFull(
                f"{len(documents)} documents need more than {wanted:,} bytes; there is room for {room:,}. Free some "
                "space, or put fewer. Nothing was put."
            )

    async def restore(self, read: Read, size: int, *, on_progress: Progress | None = None) -> int:
        """Replace all documents by those of an export; how many. See `insitu.collection.exchange` for errors."""
        count = await import_collection(self.embedder, self.store, read, size, on_progress)
        meta = await self.store.meta()
        assert meta is not None
        self._held.forget(meta)  # its fields and sizes may be others
        await self._held.refresh(again=True)
        return count

    async def reembed(
        self,
        embedder: Embedder | None = None,
        *,
        dim: int | str | None = None,
        rescore: bool | int = False,
        on_progress: Progress | None = None,
    ) -> None:
        """Have another model, or the same with another `dim` or `rescore`, embed all texts anew. See `open`."""
        fresh = await Collection.open(
            embedder or self.embedder, self.store, dim=dim, rescore=rescore, reembed=True, on_progress=on_progress
        )
        self.embedder, self._held, self._searcher = fresh.embedder, fresh._held, fresh._searcher

    # --- reading -------------------------------------------------------------------------------------------------

    async def search(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        where: object = None,
        words: float = WORDS,
        exact: bool = False,
    ) -> list[Found]:
        """The `k` best documents, each with its best passage, best first. See `insitu.collection.where` for `where`.

        `words`: what the words of the query weigh beside its meaning, 0 (meaning only) to 1 (words only); see
        `insitu.collection.fuse`. `exact`: look at all of a million and more vectors too, not at the nearest clusters.
        Without a query: documents that `where` lets pass, those put last first. Raises
        `EmptyQuery`, `InvalidArgument` (`k` is 1 to 1,000), `InvalidFilter`.
        """
        weight = check_weight(words)
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MOST_HITS:
            raise InvalidArgument(f"k is {k!r}: ask for 1 to {MOST_HITS} hits.")
        if query is not None and not isinstance(query, str):
            raise InvalidArgument(f"The query is {type(query).__name__}, not str.")
        if where is not None:
            check_where(where, self.meta.fields)
        elif query is None:
            raise InvalidArgument("search() takes a query, a filter (`where`), or both.")
        if query is not None and not query.strip():
            raise EmptyQuery("The query has no text. Ask with at least one word, or leave it out to list by `where`.")
        return await self._searcher.search(query, k, where, weight, exact)

    async def stats(self) -> dict[str, Any]:
        """What is there: `documents`, `passages`, `bytes` (vectors, texts, fields, codes for rescoring), `segments`.

        `missing`: documents whose vectors are damaged or cannot be read; put them again. `damaged`: the first rows of
        the segments concerned. `auto`: why this `dim`, if this opening chose it. `device`: where the model runs. The
        rest comes from the place where the collection lies.
        """
        await self._held.refresh()
        meta = self.meta
        return {
            "documents": meta.documents,
            "passages": meta.rows - meta.dead,
            "bytes": meta.bytes + meta.rows * (meta.dim + 8),
            "segments": len(meta.segments),
            "dead": meta.dead,
            "missing": self._held.missing(),
            "damaged": sorted(self._held.damaged),
            "space": meta.space,
            "dim": meta.dim,
            "auto": self._auto,
            "rescore": meta.full,
            "fields": dict(meta.fields),
            "revision": meta.revision,
            "device": dict(self.embedder.runtime.runs_on),
            **await self.store.about(),
        }
