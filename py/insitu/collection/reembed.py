"""A collection comes into the space of another model, while it answers in its old one.

The texts are embedded into a content beside the one that answers, up to 128 in a commit; then that takes its place in
one transaction, with what was put, changed and deleted meanwhile. What is lacking is told by comparing the two, so a
call that was killed or cancelled is gone on with by the next one.
"""

from __future__ import annotations

from insitu.collection.documents import Document
from insitu.collection.embed import embed_documents
from insitu.collection.store import Meta, Store
from insitu.embedder import Embedder, Progress
from insitu.errors import DiskFull

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
