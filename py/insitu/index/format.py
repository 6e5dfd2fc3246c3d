"""The files of an index: names, layout, validation. No disk, no network, nothing but the standard library.

See DESIGN.md, "Index files". `index.json` names every other file with its size and SHA-256; the others are named after
their content and never change, so they may be cached for ever.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from insitu.errors import IndexCorrupt, IndexVersion
from insitu.runtime import FileRef

FORMAT = "insitu-index"
VERSION = 1
ENTRY = "index.json"
FOLDER = "index"
# A shard of 4,096 vectors of 128 is half a megabyte, of 384 codes 1.6 MB: few requests, and one changed page of a small
# site rewrites one shard.
SHARD_VECTORS = 4096
# An answer shows about ten passages, most of them from text files of their own: 64 chunks are about 30 kB.
TEXTS_PER_FILE = 64

FILE_NAME = re.compile(r"index/(vectors|full|texts|pages)-[0-9a-f]{16}\.(bin|json)")
_MODEL_NAME = re.compile(r"model/[A-Za-z0-9][A-Za-z0-9._-]*/model\.lock\.json")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shard:
    """Vectors `first` to `first + count`: `vectors` holds dim codes each, `full` all of full_dim."""

    first: int
    count: int
    vectors: FileRef
    full: FileRef


@dataclass(frozen=True)
class Texts:
    """The file of the texts of the chunks `first` to `first + count`."""

    first: int
    count: int
    ref: FileRef


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page: `hash` of its chunks (see `insitu.site`), which are `first` to `first + count`."""

    url: str
    title: str
    hash: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """One chunk as a hit shows it. `page` is its position in the page list."""

    page: int
    heading: str
    anchor: str
    text: str


@dataclass(frozen=True)
class IndexManifest:
    """`index.json`. `space` is `Space.name`; `model` the path of the model's lock below the index, '' if not there;
    `asks` those of other variants, by name, which may ask it too."""

    space: str
    dim: int
    full_dim: int
    count: int
    model: str
    title: str
    pages: FileRef
    shards: tuple[Shard, ...]
    texts: tuple[Texts, ...]
    asks: Mapping[str, str]

    def to_json(self) -> str:
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(self)}
        data["texts"] = [{"first": t.first, "count": t.count, **asdict(t.ref)} for t in self.texts]
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> IndexManifest:
        """Raises `IndexVersion` for another version, `IndexCorrupt` for anything that is no whole index.json."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise _corrupt(f"it is no JSON ({error})") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise _corrupt(f"it is no {FORMAT!r}")
        if data.get("version") != VERSION:
            raise IndexVersion(
                f"The index has format version {data.get('version')!r}; this release reads version {VERSION}. Index "
                "the site again (insitu index DIR), or use the release of insitu that made it."
            )
        try:
            manifest = IndexManifest(
                space=_string(data, "space"),
                dim=_integer(data, "dim", 1),
                full_dim=_integer(data, "full_dim", 1),
                count=_integer(data, "count"),
                model=_string(data, "model"),
                title=_string(data, "title"),
                pages=_ref(data["pages"], "pages"),
                shards=tuple(
                    Shard(
                        _integer(shard, "first"),
                        _integer(shard, "count", 1),
                        _ref(shard["vectors"], "vectors"),
                        _ref(shard["full"], "full"),
                    )
                    for shard in data["shards"]
                ),
                texts=tuple(
                    Texts(_integer(texts, "first"), _integer(texts, "count", 1), _ref(texts, "texts"))
                    for texts in data["texts"]
                ),
                asks={str(name): str(path) for name, path in data.get("asks", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise _corrupt(f"{type(error).__name__} {error}") from error
        manifest._check()
        return manifest

    def files(self) -> list[FileRef]:
        """Every file that the index consists of, index.json itself apart."""
        refs = [self.pages, *(texts.ref for texts in self.texts)]
        for shard in self.shards:
            refs += [shard.vectors, shard.full]
        return refs

    def _check(self) -> None:
        if self.dim > self.full_dim:
            raise _corrupt(f"dim {self.dim} is above full_dim {self.full_dim}")
        for path in filter(None, (self.model, *self.asks.values())):
            if not _MODEL_NAME.fullmatch(path):
                raise _corrupt(f"model {path!r} is no place below the index")
        for name, runs in (("shards", self.shards), ("texts", self.texts)):
            end = 0
            for run in runs:
                if run.first != end:
                    raise _corrupt(f"{name} do not follow each other: {run.first} after {end}")
                end += run.count
            if end != self.count:
                raise _corrupt(f"{name} hold {end} chunks, not {self.count}")
        for shard in self.shards:
            for ref, dim in ((shard.vectors, self.dim), (shard.full, self.full_dim)):
                if ref.bytes != shard.count * (dim + 4):
                    raise _corrupt(f"{ref.file} of {ref.bytes} bytes cannot hold {shard.count} vectors of {dim}")


class PageList:
    """The pages of an index, and which one a chunk belongs to."""

    def __init__(self, pages: Sequence[PageEntry]) -> None:
        self.pages = pages
        self._firsts = [page.first for page in pages]

    def __len__(self) -> int:
        return len(self.pages)

    def of(self, chunk: int) -> int:
        """The position of the page of a chunk."""
        return bisect_right(self._firsts, chunk) - 1


def ref_of(kind: str, data: bytes) -> FileRef:
    """Name, size and hash of one file of the index. `kind`: 'vectors', 'full', 'texts' or 'pages'."""
    digest = hashlib.sha256(data).hexdigest()
    suffix = "bin" if kind in ("vectors", "full") else "json"
    return FileRef(f"{FOLDER}/{kind}-{digest[:16]}.{suffix}", len(data), digest)


def pack_pages(pages: Sequence[PageEntry]) -> bytes:
    return _dump([asdict(page) for page in pages])


def parse_pages(data: bytes, count: int) -> PageList:
    """`count`: chunks of the index. Raises `IndexCorrupt`."""
    try:
        pages = [
            PageEntry(
                _string(page, "url"),
                _string(page, "title"),
                _string(page, "hash"),
                _integer(page, "first"),
                _integer(page, "count", 1),
            )
            for page in json.loads(data)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(f"the list of pages cannot be read ({error})") from error
    end = 0
    for page in pages:
        if page.first != end:
            raise _corrupt(f"page {page.url!r} begins at {page.first}, not {end}")
        end += page.count
    if end != count:
        raise _corrupt(f"the pages hold {end} chunks, not {count}")
    return PageList(pages)


def pack_texts(chunks: Sequence[ChunkEntry]) -> bytes:
    return _dump([[chunk.page, chunk.heading, chunk.anchor, chunk.text] for chunk in chunks])


def parse_texts(data: bytes, count: int, pages: int) -> list[ChunkEntry]:
    """`count`: chunks that the file must hold, of an index with so many `pages`. Raises `IndexCorrupt`."""
    try:
        chunks = [ChunkEntry(page, heading, anchor, text) for page, heading, anchor, text in json.loads(data)]
    except (ValueError, TypeError) as error:
        raise _corrupt(f"a file of texts cannot be read ({error})") from error
    for chunk in chunks:
        if not isinstance(chunk.page, int) or not 0 <= chunk.page < pages:
            raise _corrupt(f"a text belongs to page {chunk.page!r} of {pages}")
        if not all(isinstance(part, str) for part in (chunk.heading, chunk.anchor, chunk.text)):
            raise _corrupt("a text is no string")
    if len(chunks) != count:
        raise _corrupt(f"a file of texts holds {len(chunks)} chunks, not {count}")
    return chunks


def _dump(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def _corrupt(what: str) -> IndexCorrupt:
    return IndexCorrupt(f"The index cannot be read: {what}. Index the site again: insitu index DIR.")


def _integer(data: Any, key: str, least: int = 0) -> int:
    value = data[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _corrupt(f"{key} is {value!r}, not a whole number of at least {least}")
    return value


def _string(data: Any, key: str) -> str:
    value = data[key]
    if not isinstance(value, str):
        raise _corrupt(f"{key} is {value!r}, not a text")
    return value


def _ref(data: Any, kind: str) -> FileRef:
    ref = FileRef(_string(data, "file"), _integer(data, "bytes"), _string(data, "sha256"))
    if not _HEX.fullmatch(ref.sha256):
        raise _corrupt(f"sha256 {ref.sha256!r} of {ref.file!r} is no hash")
    match = FILE_NAME.fullmatch(ref.file)
    if not match or match[1] != kind or f"-{ref.sha256[:16]}." not in ref.file:
        raise _corrupt(f"{ref.file!r} is no name of a file of {kind}")
    return ref
