"""Documents to what a commit of them takes: passages, vectors, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from insitu.collection.documents import Document
from insitu.collection.store import Change, Meta
from insitu.embedder import Embedder, Progress
from insitu.text.chunk import Chunk, chunk_page, embed_text, target_for
from insitu.text.page import Page, Section


async def embed_documents(
    embedder: Embedder, documents: Sequence[Document], hashes: Mapping[str, str], meta: Meta, on_progress: Progress
) -> tuple[Change, bytes, bytes]:
    """The change that puts `documents` into a collection of `meta`, with their codes and codes for rescoring.

    `hashes`: of each id. `on_progress`: (passages done, in all).
    """
    passages = [await _passages(embedder, document) for document in documents]
    texts = [text for parts in passages for _, _, text in parts]
    titles = None
    if embedder.lock.takes_titles:
        titles = [d.title for d, parts in zip(documents, passages, strict=True) for _ in parts]
    made = await embedder.embed(texts, titles=titles, dim=meta.dim, on_progress=on_progress)
    put = [
        {
            "id": document.id,
            "hash": hashes[document.id],
            "rows": len(parts),
            "size": document.size + len(parts) * (meta.full and meta.full + 4),
            "fields": document.fields,
            "title": document.title,
            "text": document.text,
            "cuts": [edge for start, end, _ in parts for edge in (start, end)],
        }
        for document, parts in zip(documents, passages, strict=True)
    ]
    full = made.block.full_codes() if meta.full else b""
    return Change(put, space=meta.space, full=meta.full), made.block.codes(), full


async def _passages(embedder: Embedder, document: Document) -> list[tuple[int, int, str]]:
    """Start and end in the text, and what is embedded, of each passage. That of a title alone is empty."""
    section = Section("", "", document.text, 0)
    target = target_for(embedder.lock.max_tokens)
    chunks = await chunk_page(Page("", document.title, (section,)), embedder.count_tokens, target=target)
    title = "" if embedder.lock.takes_titles else document.title
    found: list[tuple[int, int, str]] = []
    end = 0
    for part in chunks or [Chunk((), "", "")]:
        start = document.text.index(part.text, end)
        end = start + len(part.text)
        found.append((start, end, embed_text(title, part)))
    return found
