"""What collections in a folder must survive: damage, full disks, several at once."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from insitu import errors
from insitu.collection.folder import FILE, FolderStore
from notes import NOTES, embedded, ids, of_notes, opened, run


def test_a_damaged_segment_is_named_and_the_rest_answers(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await opened(tmp_path)
        for note in NOTES:
            await notes.put([note])
        notes.store.close()
        with sqlite3.connect(tmp_path / FILE) as db:
            data = bytearray(db.execute("SELECT data FROM segments WHERE first = 1").fetchone()[0])
            data[3] ^= 1
            db.execute("UPDATE segments SET data = ? WHERE first = 1", (bytes(data),))
        notes = await opened(tmp_path)
        assert sorted(ids(await notes.search("cat"))) == ["car", "plain", "tax"]
        stats = await notes.stats()
        assert (stats["damaged"], stats["missing"], stats["documents"]) == ([1], 1, 4)
        done = await notes.put(NOTES)
        assert (done.embedded, done.unchanged) == (1, 3)
        assert ids(await notes.search("cat food", k=1)) == ["cat"]
        assert (await notes.stats())["missing"] == 0
        await notes.store.compact()
        assert ids(await notes.search("cat food", k=1)) == ["cat"]
        assert (await notes.stats())["damaged"] == []

    run(main())


@pytest.mark.parametrize("rescore", [False, True])
def test_a_lost_text_does_not_keep_the_others_from_answering(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path, rescore=rescore)
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("DELETE FROM texts WHERE id = ?", ('"cat"',))
        assert sorted(ids(await notes.search("cat"))) == ["car", "plain", "tax"]
        assert sorted(ids(await notes.search(where={}))) == ["car", "plain", "tax"]

    run(main())


def test_searches_and_puts_at_once_answer_from_one_state(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)

        async def write() -> None:
            for i in range(30):
                await notes.put([{**note, "text": f"{note['text']} {i}"} for note in NOTES])
                await notes.store.compact()
                await asyncio.sleep(0)

        async def read() -> None:
            for _ in range(30):
                assert sorted(ids(await notes.search("car"))) == ["car", "cat", "plain", "tax"]
                assert sorted(ids(await notes.search("car", where={"tag": "home"}))) == ["car", "cat"]
                assert sorted(ids(await notes.search("car", words=0.5))) == ["car", "cat", "plain", "tax"]
                await asyncio.sleep(0)

        await asyncio.gather(write(), read(), read())

    run(main())


def test_a_put_that_cannot_fit_is_refused_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        before = embedded(notes)
        usage = shutil.disk_usage(tmp_path)._replace(free=100)
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(errors.DiskFull):
            await notes.put([{"id": "large", "text": "many words " * 50}])
        assert embedded(notes) == before

    run(main())


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        store = notes.store
        assert isinstance(store, FolderStore)
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(errors.DiskFull):
            await notes.put([{"id": "large", "text": "many words " * 5000}])
        assert sorted(ids(await notes.search("car"))) == ["car", "cat", "plain", "tax"]
        store._db.execute("PRAGMA max_page_count = 1000000")
        await notes.put([{"id": "large", "text": "many words " * 5000}])
        assert len(await notes.search("car")) == 5

    run(main())
