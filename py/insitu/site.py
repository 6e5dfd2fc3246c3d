"""A folder of HTML to an index that can be uploaded: read, chunk, embed what changed, write.

`index_site` is what the CLI calls; `build_index` is the same with an opened runtime.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import quote

from insitu.embedder import Embedder
from insitu.errors import NoDocuments, ReadFailed, WrongEncoding
from insitu.index.format import ENTRY, FOLDER, FORMAT, ChunkEntry, PageEntry
from insitu.index.previous import Previous
from insitu.index.write import Contents, Rows, write_index, writing
from insitu.model.exported import read_lock
from insitu.model.lock import ModelLock
from insitu.place import model_folder, place, place_model, remove_other_models
from insitu.runtime import Runtime
from insitu.text import chunk as chunking
from insitu.text.chunk import Chunk, chunk_page, embed_text, target_for
from insitu.text.html import read_page
from insitu.text.page import Page

DEFAULT_MODEL = "minilm-l6"
# Scanned in the page: 128 codes a chunk are a third of what 384 weigh, and rescoring gives back what they lose.
DEFAULT_DIM = 128
SUFFIXES = frozenset((".html", ".htm", ".xhtml"))
# Chunks embedded at a time: enough for batches of like length, few enough that memory stays small on any site.
EMBED_AT_ONCE = 2048

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, in all): stage 'read' counts pages, 'embed' chunks."""


@dataclass(frozen=True)
class Report:
    """What `index_site` did. `empty`: pages without text, which are not in the index. `truncated`: chunks of which
    the model read only the first part. `web`: whether the search page and its files lie beside the index."""

    out: Path
    pages: int
    chunks: int
    pages_embedded: int
    chunks_embedded: int
    pages_reused: int
    chunks_reused: int
    pages_removed: int
    empty: tuple[str, ...]
    truncated: int
    bytes: int
    seconds: float
    space: str
    web: bool


def index_site(
    site: Path,
    out: Path | None = None,
    *,
    model: str = DEFAULT_MODEL,
    variant: str = "int8",
    asks: Sequence[str] = (),
    dim: int | None = None,
    encoding: str | None = None,
    exclude: Sequence[str] = (),
    on_progress: Progress | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Report:
    """Index the HTML files below `site` into `out` (default: `site`/insitu), in place of the index there.

    Pages that are as they were keep their vectors. `dim`: components that are scanned (default 128), 1 to the model's
    size. `asks`: other variants of the model, placed beside it for pages that only ask. `encoding`: of all pages,
    instead of what they declare. `exclude`: patterns of urls to leave out, as in `drafts/*`. Raises `NoDocuments`,
    `WrongEncoding`, `ReadFailed`, `DimUnsupported`, `DiskFull`, `WriteFailed`, and what `insitu.model.ensure` raises;
    the index that was there stays whole then.
    """
    from insitu.model import ensure
    from insitu.runtime.native import NativeRuntime

    out = site / "insitu" if out is None else out
    find_pages(site, out, exclude)  # a folder without pages is told before a model is fetched
    folder = ensure(model, variant, on_step=on_step)
    runtime = NativeRuntime.open(folder, index_dir=out)
    return asyncio.run(
        build_index(
            site,
            out,
            runtime,
            runtime.lock,
            model_dir=folder,
            asks=[ensure(model, other, on_step=on_step) for other in asks],
            dim=dim,
            encoding=encoding,
            exclude=exclude,
            on_progress=on_progress,
        )
    )


async def build_index(
    site: Path,
    out: Path,
    runtime: Runtime,
    lock: ModelLock,
    *,
    model_dir: Path | None = None,
    asks: Sequence[Path] = (),
    dim: int | None = None,
    encoding: str | None = None,
    exclude: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> Report:
    """See `index_site`. Without `model_dir` neither model nor web files are placed beside the index."""
    started = time.monotonic()
    size = lock.check_dim(min(DEFAULT_DIM, lock.full_dim) if dim is None else dim)
    space = lock.space(size)
    pages, empty = read_pages(site, find_pages(site, out, exclude), encoding, on_progress)
    previous = Previous.read(out, space, lock.full_dim)
    others = [(read_lock(path), path) for path in asks]
    for other, path in others:
        other.space(size).require(space.name, f"The index, which {path} is to ask,")
    builder = _Builder(Embedder(runtime, lock), size, previous)
    await builder.add(pages, on_progress)
    with writing(out):
        web = place(model_dir, lock, out) if model_dir is not None else False
        for other, path in others:
            place_model(path, other, out)
    manifest = write_index(
        out,
        Contents(
            space=space,
            full_dim=lock.full_dim,
            title=_site_title(site, pages),
            model=f"{model_folder(lock)}/model.lock.json" if model_dir is not None else "",
            pages=builder.entries,
            chunks=builder.chunks,
            vectors=Rows.join(builder.vectors),
            full=Rows.join(builder.full),
            asks={other.variant: f"{model_folder(other)}/model.lock.json" for other, _ in others},
        ),
    )
    if model_dir is not None:
        remove_other_models({model_folder(kept) for kept in (lock, *(other for other, _ in others))}, out)
    return Report(
        out=out,
        pages=len(pages),
        chunks=manifest.count,
        pages_embedded=builder.pages_embedded,
        chunks_embedded=builder.chunks_embedded,
        pages_reused=len(pages) - builder.pages_embedded,
        chunks_reused=manifest.count - builder.chunks_embedded,
        pages_removed=len(previous.urls - {page.url for page in pages}),
        empty=tuple(empty),
        truncated=builder.truncated,
        bytes=sum(ref.bytes for ref in manifest.files()),
        seconds=time.monotonic() - started,
        space=space.name,
        web=web,
    )


def find_pages(site: Path, out: Path, exclude: Sequence[str] = ()) -> list[Path]:
    """The HTML files below `site`, sorted by their path, without `out`, other indexes, and folders named '.something'.

    Raises `NoDocuments` if there are none.
    """
    if not site.is_dir():
        raise NoDocuments(f"{site} is no folder. Name the folder that holds the built site.")
    found = []
    for folder, folders, files in os.walk(site):
        here = Path(folder)
        folders[:] = [name for name in folders if name[0] != "." and not _is_index(here / name, out)]
        found += [here / name for name in files if Path(name).suffix.lower() in SUFFIXES]
    if not found:
        raise NoDocuments(
            f"{site} holds no HTML files ({', '.join(sorted(SUFFIXES))}). Build the site first and name the folder "
            "with its pages."
        )
    kept = [path for path in found if not any(fnmatch(_relative(path, site), pattern) for pattern in exclude)]
    if not kept:
        raise NoDocuments(f"All {len(found)} HTML files of {site} are excluded. Give narrower --exclude patterns.")
    return sorted(kept, key=lambda path: _relative(path, site))


def read_pages(
    site: Path, paths: Sequence[Path], encoding: str | None = None, on_progress: Progress | None = None
) -> tuple[list[Page], list[str]]:
    """The pages with text, and the urls of those without.

    Raises `WrongEncoding` after all were read, so that one message names every wrong page: an index that silently
    lacks a page would be worse than none.
    """
    pages: list[Page] = []
    empty: list[str] = []
    wrong: list[WrongEncoding] = []
    for number, path in enumerate(paths, 1):
        url = quote(_relative(path, site))
        try:
            page = read_page(path.read_bytes(), url, encoding=encoding)
        except WrongEncoding as error:
            wrong.append(error)
            continue
        except OSError as error:
            raise ReadFailed(
                f"{path} cannot be read ({error.strerror or error}). Correct its permissions, or leave it out: "
                f"--exclude {url}"
            ) from error
        if page.sections:
            pages.append(page)
        else:
            empty.append(url)
        if on_progress is not None:
            on_progress("read", number, len(paths))
    if wrong:
        more = "".join(f"\n{str(error).partition(' (bad bytes')[0]}" for error in wrong[1:])
        raise WrongEncoding(str(wrong[0]) + (f" The same holds for:{more}" if more else ""))
    if not pages:
        raise NoDocuments(
            f"None of the {len(paths)} HTML files of {site} has text to index (outside of navigation, scripts and "
            "what is marked data-insitu-ignore or noindex)."
        )
    return pages, empty


def page_hash(page: Page) -> str:
    """What decides the chunks of a page and their vectors within one space: its content and the way it is cut."""
    content = [chunking.VERSION, chunking.TARGET_TOKENS, page.title]
    sections = [[section.heading, section.anchor, section.text, section.level] for section in page.sections]
    return hashlib.sha256(json.dumps([content, sections]).encode()).hexdigest()


class _Builder:
    """Collects the pages of the new index: from the previous one where their hash is there, else embedded."""

    def __init__(self, embedder: Embedder, dim: int, previous: Previous) -> None:
        self.entries: list[PageEntry] = []
        self.chunks: list[ChunkEntry] = []
        self.vectors: list[Rows] = []
        self.full: list[Rows] = []
        self.pages_embedded = self.chunks_embedded = self.truncated = 0
        self._embedder = embedder
        self._dim = dim
        self._previous = previous

    async def add(self, pages: Sequence[Page], on_progress: Progress | None) -> None:
        hashes = [page_hash(page) for page in pages]
        target = target_for(self._embedder.lock.max_tokens)
        fresh = {
            number: await chunk_page(page, self._embedder.count_tokens, target=target)
            for number, page in enumerate(pages)
            if hashes[number] not in self._previous
        }
        self.pages_embedded = len(fresh)
        self.chunks_embedded = sum(len(chunks) for chunks in fresh.values())
        titled = self._embedder.lock.takes_titles  # the title has its place in the prompt, else it leads the text
        chunks = [(pages[number].title, chunk) for number, chunks in fresh.items() for chunk in chunks]
        texts = [embed_text("" if titled else title, chunk) for title, chunk in chunks]
        vectors, full = await self._embed(texts, [title for title, _ in chunks], on_progress)
        used = 0
        for number, (page, digest) in enumerate(zip(pages, hashes, strict=True)):
            if number in fresh:
                entries = [_entry(number, chunk) for chunk in fresh[number]]
                rows = vectors.part(used, len(entries)), full.part(used, len(entries))
                used += len(entries)
            else:
                known = self._previous.page(digest)
                entries = [ChunkEntry(number, old.heading, old.anchor, old.text) for old in known.chunks]
                rows = known.vectors, known.full
            self.entries.append(PageEntry(page.url, page.title, digest, len(self.chunks), len(entries)))
            self.chunks += entries
            self.vectors.append(rows[0])
            self.full.append(rows[1])

    async def _embed(
        self, texts: Sequence[str], titles: Sequence[str], on_progress: Progress | None
    ) -> tuple[Rows, Rows]:
        vectors: list[Rows] = []
        full: list[Rows] = []
        for first in range(0, len(texts), EMBED_AT_ONCE):

            def report(done: int, _: int, first: int = first) -> None:
                if on_progress is not None:
                    on_progress("embed", first + done, len(texts))

            part = slice(first, first + EMBED_AT_ONCE)
            embedded = await self._embedder.embed(
                texts[part], task="document", titles=titles[part], dim=self._dim, on_progress=report
            )
            self.truncated += sum(embedded.truncated)
            vectors.append(Rows.of(embedded.block.codes(), self._dim))
            full.append(Rows.of(embedded.block.full_codes(), self._embedder.lock.full_dim))
        return Rows.join(vectors), Rows.join(full)


def _entry(page: int, chunk: Chunk) -> ChunkEntry:
    return ChunkEntry(page, chunk.heading, chunk.anchor, chunk.text)


def _relative(path: Path, site: Path) -> str:
    return path.relative_to(site).as_posix()


def _is_index(folder: Path, out: Path) -> bool:
    if folder.resolve() == out.resolve():
        return True
    try:
        return (folder / FOLDER).is_dir() and FORMAT in (folder / ENTRY).read_text("utf-8")[:100]
    except (OSError, UnicodeError):
        return False


def _site_title(site: Path, pages: Sequence[Page]) -> str:
    home = next((page.title for page in pages if page.url in ("index.html", "index.htm")), "")
    return home or site.resolve().name
