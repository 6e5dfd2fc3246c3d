"""A collection comes into the space of another model: it answers meanwhile, and nothing done meanwhile is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from fake_runtime import FakeRuntime
from insitu import errors
from insitu.collection import embed as module
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.embedder import Embedder
from notes import NOTES, embedded, embedder, ids, of_notes, opened, run

MANY: list[dict[str, Any]] = [{"id": str(i), "text": f"the text number {i}", "fields": {"date": i}} for i in range(20)]
BLUE = "where is the blue car parked"


def other() -> Embedder:
    return embedder(name="other", full_dim=32)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)


async def state(notes: Collection) -> Any:
    """All documents with their fields, and the answer to a question."""
    listed = await notes.search(where={}, k=100)
    stats = await notes.stats()
    assert (stats["missing"], stats["documents"]) == (0, len(listed))
    return sorted((hit.id, hit.text, hit.title, tuple(hit.fields.items())) for hit in listed)


@pytest.mark.parametrize("rescore", [False, True])
def test_all_texts_come_into_the_space_of_another_model(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path / "a", rescore=rescore)
        await notes.delete(["tax"])
        before = await state(notes)
        with pytest.raises(errors.SpaceMismatch) as raised:
            await opened(tmp_path / "a", embedder=other())
        assert "fake:" in str(raised.value) and "other:" in str(raised.value) and "reembed" in str(raised.value)
        seen: list[tuple[int, int]] = []
        await notes.reembed(other(), on_progress=lambda *step: seen.append(step))
        assert seen[-1] == (3, 3) and seen == sorted(seen)
        assert (await notes.stats())["space"].startswith("other:") and (await notes.stats())["dim"] == 16
        assert await state(notes) == before
        # As if it had never been in another space.
        fresh = await Collection.open(
            other(), FolderStore(tmp_path / "b"), fields=notes.meta.fields, dim=16, rescore=rescore
        )
        await fresh.put([note for note in NOTES if note["id"] != "tax"])
        assert await fresh.search(BLUE) == await notes.search(BLUE)
        assert await (await opened(tmp_path / "a", embedder=other())).search(BLUE) == await notes.search(BLUE)
        assert (await notes.put([NOTES[0]])).unchanged == 1

    run(main())


def test_the_same_model_may_take_another_size(tmp_path: Path) -> None:
    async def main() -> None:
        await of_notes(tmp_path, dim=8)
        with pytest.raises(errors.InvalidArgument, match="reembed"):
            await opened(tmp_path, dim=4)
        with pytest.raises(errors.InvalidArgument, match="reembed"):
            await opened(tmp_path, rescore=True)
        notes = await opened(tmp_path, dim=4, rescore=True, reembed=True)
        assert (notes.meta.dim, notes.meta.full, embedded(notes)) == (4, 16, 4)
        assert ids(await notes.search(BLUE, k=1)) == ["car"]
        again = await opened(tmp_path, dim=4, rescore=True, reembed=True)
        assert embedded(again) == 0, "there was nothing to do"

    run(main())


def test_it_answers_in_its_old_space_until_the_new_one_is_complete(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        wanted = await notes.search(BLUE)
        reading = await opened(tmp_path)
        found: list[Any] = []

        async def ask() -> None:
            while True:
                found.append(await reading.search(BLUE))
                await asyncio.sleep(0)

        new = other()
        forward = new.runtime.forward

        async def slow(*given: Any) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            await forward(*given)

        new.runtime.forward = slow  # type: ignore[assignment, method-assign]
        asking = asyncio.create_task(ask())
        await notes.reembed(new)
        with pytest.raises(errors.SpaceMismatch, match="Open it again"):
            await asking
        assert len(found) > 2 and all(hits == wanted for hits in found)

    run(main())


def test_what_is_put_changed_and_deleted_meanwhile_is_kept(tmp_path: Path) -> None:
    """Random writes between the batches, held to a dictionary; also ones that go back to what was there."""

    async def one(folder: Path, seed: int) -> None:
        chance = random.Random(seed)
        notes, writing = await opened(folder), await opened(folder)
        await notes.put(MANY)
        model = {note["id"]: (note["text"], note["fields"]) for note in MANY}
        left = 25

        async def write() -> None:
            nonlocal left
            for _ in range(chance.randrange(3)):
                if left == 0:
                    return
                left -= 1
                id = str(chance.randrange(25))
                if chance.random() < 0.3:
                    await writing.delete([id])
                    model.pop(id, None)
                    continue
                text = f"the text number {id}" if chance.random() < 0.5 else f"changed {chance.randrange(3)}"
                model[id] = text, {"date": chance.randrange(9)}
                await writing.put([{"id": id, "text": text, "fields": model[id][1]}])
                if chance.random() < 0.2:
                    await writing.store.compact()

        new = other()
        forward = new.runtime.forward

        async def slow(*given: Any) -> None:
            await write()
            await forward(*given)

        new.runtime.forward = slow  # type: ignore[assignment, method-assign]
        await notes.reembed(new)
        new.runtime.forward = forward  # type: ignore[method-assign]
        assert {hit.id: (hit.text, hit.fields) for hit in await notes.search(where={}, k=100)} == model
        hits = await notes.search("text", k=100)
        assert sorted(ids(hits)) == sorted(model)
        fresh = await Collection.open(other(), FolderStore(folder / "fresh"), fields={"date": "number"}, dim=16)
        await fresh.put([{"id": id, "text": text, "fields": fields} for id, (text, fields) in model.items()])
        assert {hit.id: hit.score for hit in hits} == {hit.id: hit.score for hit in await fresh.search("text", k=100)}
        assert (await notes.stats())["missing"] == 0

    async def main() -> None:
        for seed in range(12):
            await one(tmp_path / str(seed), seed)

    run(main())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", [Killed, asyncio.CancelledError, errors.NotANumber])
def test_one_that_ended_half_way_leaves_the_old_whole_and_is_gone_on_with(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        await notes.put(MANY)
        before = await state(notes), await notes.search("text number 7")

        def stop(done: int, total: int) -> None:
            if done >= 10:
                raise kind

        with pytest.raises(kind):
            await notes.reembed(other(), on_progress=stop)
        assert (await state(notes), await notes.search("text number 7")) == before
        notes.store.close()
        notes = await opened(tmp_path)
        assert (await state(notes), await notes.search("text number 7")) == before
        await notes.put([{"id": "0", "text": "another text"}])
        new = other()
        await notes.reembed(new)
        assert embedded(notes) == len(MANY) - 9 + 1, "nine were there already, one of them is another now"
        assert isinstance(new.runtime, FakeRuntime)
        assert len(await notes.search("text", k=50)) == len(MANY)

    run(main())


def test_what_was_begun_for_another_model_is_not_gone_on_with(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        await notes.put(MANY)

        def stop(done: int, total: int) -> None:
            raise Killed

        with pytest.raises(Killed):
            await notes.reembed(other(), on_progress=stop)
        third = embedder(name="third")
        await notes.reembed(third)
        assert embedded(notes) == len(MANY)
        assert len(await notes.search("text", k=50)) == len(MANY)

    run(main())


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    async def main() -> None:
        await (await opened(tmp_path)).put(MANY)
        first, second = other(), other()
        both = [opened(tmp_path, embedder=one, reembed=True) for one in (first, second)]
        notes, again = await asyncio.gather(*both)
        assert sorted([embedded(notes), embedded(again)]) == [0, len(MANY)]
        assert await notes.search("text") == await again.search("text")

    run(main())


def test_a_put_that_was_embedded_for_the_old_space_does_not_enter_the_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        notes, late = await of_notes(tmp_path), await opened(tmp_path)
        forward = late.embedder.runtime.forward

        async def slow(*given: Any) -> None:
            await forward(*given)
            await notes.reembed(other())

        late.embedder.runtime.forward = slow  # type: ignore[assignment, method-assign]
        with pytest.raises(errors.SpaceMismatch):
            await late.put([{"id": "late", "text": "too late"}])
        assert sorted(ids(await notes.search("late"))) == ["car", "cat", "plain", "tax"]

    run(main())


def test_a_document_that_lost_its_text_is_left_out(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        assert isinstance(notes.store, FolderStore)
        notes.store._db.execute("DELETE FROM texts WHERE id = ?", ('"cat"',))
        await notes.reembed(other())
        assert sorted(ids(await notes.search("cat"))) == ["car", "plain", "tax"]
        assert (await notes.stats())["documents"] == 3

    run(main())


def test_one_that_cannot_fit_is_refused_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    async def main() -> None:
        notes = await of_notes(tmp_path)
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(errors.DiskFull):
            await opened(tmp_path, embedder=(new := other()), reembed=True)
        assert isinstance(new.runtime, FakeRuntime) and new.runtime.embedded == []
        assert ids(await notes.search(BLUE, k=1)) == ["car"]

    run(main())
