"""The seam between a collection and the place where it lies.

Two implementations: `insitu.collection.folder` (CPython: a folder) and `WebStore` of `insitu.runtime.web` (the page:
IndexedDB, through web/src/collection_store.ts). A store knows rows, numbers and bytes; what a text, a filter or an
answer is, it does not know. See DESIGN.md, "Collections".

A *document* has an id (the user's) and a number, given when it is put and never given again: a document that is put
anew has a new number, and the old one is dead. A *row* is one vector; the rows of a document follow each other, and
numbers ascend with rows. A *segment* holds consecutive rows; each commit writes one, and `fold` joins small ones.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from insitu.collection.columns import Columns
from insitu.errors import CollectionCorrupt, CollectionVersion, SpaceMismatch

if TYPE_CHECKING:
    from insitu.collection.words import WordIndex

VERSION = 1
# Numbers left for what is put while another content is made: one number never means two documents, in either.
RESERVED = 1 << 20


@dataclass(frozen=True)
class Meta:
    """What a collection says of itself: one record, written with every commit.

    `full`: components of the codes kept for rescoring, 0 for none. `epoch` grows when rows move (compaction, import),
    `revision` with every commit. `rows` are all rows, of which `dead` belong to no document; `next` is the next number;
    `changes` the last entry of the list of the dead; `segments` are (first row, rows). `bytes`: what texts, fields and
    codes for rescoring take.
    """

    space: str
    dim: int
    full: int
    fields: Mapping[str, str]
    version: int = VERSION
    epoch: int = 1
    revision: int = 0
    rows: int = 0
    dead: int = 0
    next: int = 1
    changes: int = 0
    documents: int = 0
    bytes: int = 0
    segments: Sequence[Sequence[int]] = ()

    @staticmethod
    def of(data: Mapping[str, Any]) -> Meta:
        """Raises `CollectionVersion` for another version, `CollectionCorrupt` for what is no such record."""
        if data.get("version") != VERSION:
            raise CollectionVersion(
                f"The collection has format version {data.get('version')!r}; this release reads version {VERSION}. "
                "Use the release of insitu that wrote it."
            )
        try:
            return Meta(**data)
        except TypeError as error:
            raise CollectionCorrupt(f"The record of the collection is damaged ({error}). Import an export.") from error


@dataclass(frozen=True)
class Entry:
    """A document as the list of ids knows it. `hash` is over what was embedded, `rows` how many vectors it has."""

    number: int
    hash: str
    rows: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """A document with its text. `cuts`: start and end of each passage in `text`, one after another."""

    id: str
    title: str
    text: str
    cuts: Sequence[int]
    hash: str
    fields: Mapping[str, Any]

    def passage(self, at: int) -> Passage:
        start, end = self.cuts[2 * at : 2 * at + 2]
        return Passage(self.id, self.title, self.text[start:end], self.fields)


@dataclass(frozen=True)
class Passage:
    """What an answer shows of a document. `text`: of one passage."""

    id: str
    title: str
    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class News:
    """What a reader that knew less has to learn. `reset`: forget all rows first.

    `parts` are rows for `Runtime.append`, in order; `numbers` the document of each of these rows; `dead` are numbers
    that died; `damaged` the first rows of segments that are not what was written: their rows are dead.
    """

    meta: Meta
    reset: bool
    parts: Sequence[Any]
    numbers: array[int]
    dead: Sequence[int]
    damaged: Sequence[int] = ()


@dataclass(frozen=True)
class Change:
    """One commit. `put`: documents with `id, hash, rows, size, fields, title, text, cuts` (`rows` vectors each, in
    order); `touch`: (id, fields) whose text stayed; `delete`: ids. `space`, `full`: what the vectors are, as in `Meta`.
    """

    put: Sequence[Mapping[str, Any]] = ()
    touch: Sequence[tuple[str, Mapping[str, Any]]] = ()
    delete: Sequence[str] = ()
    space: str = ""
    full: int = 0

    def require(self, meta: Meta) -> None:
        """Raise `SpaceMismatch` if a collection of this record cannot hold these vectors."""
        if self.put and (self.space, self.full) != (meta.space, meta.full):
            raise SpaceMismatch(
                f"The collection holds vectors of the space {meta.space!r} by now, and these are of {self.space!r}. "
                "Open it again."
            )


@dataclass(frozen=True)
class Committed:
    """`revision` after the commit; the `numbers` of the documents that were put; how many ids were deleted."""

    revision: int
    numbers: Sequence[int]
    deleted: int


class Store(Protocol):
    """One collection. What fails for lack of space raises `DiskFull`; then nothing has changed."""

    async def meta(self) -> Meta | None:
        """None: there is no such collection yet."""

    async def declare(self, meta: Meta) -> None:
        """Make the collection, or give the one that is there the fields of `meta`."""

    def changed(self) -> bool:
        """Whether somebody else may have written since `news` was asked last. Who asks early need not wait for it."""

    async def news(self, epoch: int, rows: int, changes: int) -> News:
        """What a reader lacks that has so many `rows` and `changes` of this `epoch`; read in one transaction."""

    async def find(self, ids: Sequence[str]) -> list[Entry | None]: ...

    async def texts(self, numbers: Sequence[int]) -> list[Stored | None]:
        """None: the number is dead by now."""

    async def passages(self, places: Sequence[tuple[int, int]], revision: int) -> list[Passage | None]:
        """Of (number, position in its document). None: the number is dead by now.

        `revision`: that of whoever asks. If these are of another one, `changed` says so.
        """

    async def full(self, rows: Sequence[tuple[int, int]]) -> bytes | None:
        """Codes for rescoring of (number, position in its document), in the layout of `Block.full_codes`.

        None: one of the numbers is dead by now.
        """

    async def columns(self, names: Sequence[str], rows: array[int]) -> Columns:
        """`rows`: the number of each row's document."""

    async def commit(self, change: Change, codes: bytes, full: bytes) -> Committed:
        """All of `change` in one transaction. `codes` and `full`: the layout of `Block.codes` and `full_codes`.

        Raises `SpaceMismatch` if the collection has come to hold other vectors.
        """

    async def fold(self, firsts: Sequence[int]) -> None:
        """Join these neighbouring segments into one, in one transaction. No row moves; a damaged one is left alone."""

    async def compact(self) -> None:
        """Write all segments again without the rows of the dead and without damaged ones, in one transaction."""

    async def segment(self, first: int) -> tuple[bytes, array[int]]:
        """Codes and scales (the layout of `Block.codes`) of a segment, and the numbers. Raises `CollectionCorrupt`."""

    # A content that is made beside the one that answers, and then takes its place. `staging` is held meanwhile.

    async def stage(self, meta: Meta, keep: bool = False) -> None:
        """Begin one. `keep`: go on with what was begun, if it is of the same space and sizes."""

    async def commit_next(self, change: Change, codes: bytes, full: bytes) -> None:
        """`commit`, to that content."""

    async def swap(self, follow: bool, lost: Sequence[int] = ()) -> Sequence[int]:
        """Put it in place of the other, in one transaction.

        `follow`: it is to hold the same documents. If it lacks some, their numbers (here), ascending, and nothing
        happened; those `lost` are left out. Else it gets the fields that the others have, and loses what they lost.
        """

    async def unstage(self) -> None:
        """Drop it."""

    def staging(self) -> AbstractAsyncContextManager[None]:
        """Held by one at a time, in all tabs."""

    async def words(self) -> WordIndex:
        """The word index that lies here, empty if there is none. It is no part of what a commit writes."""

    async def room(self) -> int | None:
        """Bytes that may still be written, as far as known."""

    def writing(self) -> AbstractAsyncContextManager[None]:
        """Held by one writer at a time, in all tabs."""

    async def about(self) -> dict[str, Any]:
        """What the place tells of itself, for `stats`."""

    def close(self) -> None: ...
