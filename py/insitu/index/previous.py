"""The index that is there already, as a store of finished pages: what has not changed is not embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from insitu.errors import IndexCorrupt, InsituError
from insitu.index.format import ENTRY, ChunkEntry, IndexManifest, PageEntry, parse_pages, parse_texts
from insitu.index.write import Rows
from insitu.runtime import FileRef
from insitu.space import Space


@dataclass(frozen=True)
class KnownPage:
    """A page of the previous index: a row of `vectors` and of `full` for each of `chunks`."""

    chunks: Sequence[ChunkEntry]
    vectors: Rows
    full: Rows


class Previous:
    """Pages by their hash. Empty if there is no index, or one of another space or version, or a damaged one."""

    def __init__(
        self, pages: Sequence[PageEntry] = (), chunks: Sequence[ChunkEntry] = (), rows: tuple[Rows, Rows] | None = None
    ) -> None:
        self.urls = frozenset(page.url for page in pages)
        self._pages = {page.hash: page for page in pages}
        self._chunks = chunks
        self._vectors, self._full = rows or (Rows(b"", b""), Rows(b"", b""))

    @staticmethod
    def read(folder: Path, space: Space, full_dim: int) -> Previous:
        """The index in `folder`. What cannot be reused is not an error: everything is embedded then."""
        try:
            manifest = IndexManifest.from_json((folder / ENTRY).read_bytes())
            if manifest.space != space.name or manifest.full_dim != full_dim:
                return Previous()
            pages = parse_pages(_read(folder, manifest.pages), manifest.count)
            chunks: list[ChunkEntry] = []
            for texts in manifest.texts:
                chunks += parse_texts(_read(folder, texts.ref), texts.count, len(pages))
            vectors = [Rows.of(_read(folder, shard.vectors), manifest.dim) for shard in manifest.shards]
            full = [Rows.of(_read(folder, shard.full), manifest.full_dim) for shard in manifest.shards]
        except (OSError, InsituError):
            return Previous()
        return Previous(pages.pages, chunks, (Rows.join(vectors), Rows.join(full)))

    def __contains__(self, page_hash: str) -> bool:
        return page_hash in self._pages

    def page(self, page_hash: str) -> KnownPage:
        page = self._pages[page_hash]
        run = slice(page.first, page.first + page.count)
        return KnownPage(
            self._chunks[run], self._vectors.part(page.first, page.count), self._full.part(page.first, page.count)
        )


def _read(folder: Path, ref: FileRef) -> bytes:
    data = (folder / ref.file).read_bytes()
    if len(data) != ref.bytes or sha256(data).hexdigest() != ref.sha256:
        raise IndexCorrupt(f"{ref.file} is not the file that was indexed.")
    return data
