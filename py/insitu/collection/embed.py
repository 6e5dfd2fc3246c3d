"""Documents to what a commit of them takes; and a whole collection into the space of another model.

For that the collection answers in its old space meanwhile.
The texts are embedded into a content beside the one that answers, up to 128 in a commit; then that takes its place in
one transaction, with what was put, changed and deleted meanwhile. What is lacking is told by comparing the two, so a
call that was killed or cancelled is gone on with by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from insitu.collection.documents import Document
from insitu.collection.store import Change, Meta, Store
from insitu.embedder import Embedder, Progress
from insitu.errors import DiskFull
from insitu.text.chunk import Chunk, chunk_page, embed_text, target_for
from insitu.text.page import Page, Section

# As in a put: what a crash can cost.
BATCH = 128


async def reembed(embedder: Embedder, store: Store, target: Meta, on_progress: Progress | None = None) -> None:
    """Embed all texts of `store` with `embedder`, as `target` has it: space, `dim`, `full`.

    `on_progress`: (documents done, in all). Raises `DiskFull` before anything is embedded, and what embedding raises;
    then the collection is as it was.
    """
    async with store.staging():
        meta = await store.meta() or target
        wanted = meta.bytes + meta.rows * (target.dim + target.full + 8)
        room = await store.room()
        if room is not None and wanted > room:
            raise DiskFull(
                f"To embed the collection anew takes about {wanted:,} bytes beside what is there; there is room for "
                f"{room:,}. Free some space. Nothing was changed."
            )
        await store.stage(target, keep=True)
        lost: list[int] = []
        while True:
            async with store.writing():
                lacking = await store.swap(True, lost)
            if not lacking:
                return
            total = max(meta.documents, len(lacking))
            for start in range(0, len(lacking), BATCH):
                batch = lacking[start : start + BATCH]
                before = total - len(lacking) + start

                def progress(
                    done: int, of: int, before: int = before, count: int = len(batch), total: int = total
                ) -> None:
                    if on_progress is not None:
                        on_progress(before + count * done // of, total)

                found = dict(zip(batch, await store.texts(batch), strict=True))
                lost += [number for number, stored in found.items() if stored is None]  # or deleted by now
                stored = [one for one in found.values() if one]
                documents = [Document(one.id, one.text, one.title, one.fields) for one in stored]
                hashes = {one.id: one.hash for one in stored}
                await store.commit_next(*await embed_documents(embedder, documents, hashes, target, progress))


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
