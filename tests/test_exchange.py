"""The file of an export: it brings everything back, and a file that is not whole changes nothing."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen import FOUND, FROZEN, PASSPHRASE
from insitu import errors
from insitu.collection import files
from insitu.collection.collection import Collection
from insitu.collection.exchange import export_collection
from insitu.collection.files import source_of, write_export
from insitu.collection.folder import FolderStore
from notes import NOTES, embedded, embedder, ids, of_notes, opened, run

QUESTION = "where is the blue car"


async def exported(notes: Collection) -> bytes:
    return b"".join([piece async for piece in export_collection(notes.store)])


async def restore(notes: Collection, data: bytes) -> int:
    async def read(start: int, count: int) -> bytes:
        return data[start : start + count]

    return await notes.restore(read, len(data))


@cache
def file_of_notes() -> bytes:
    with TemporaryDirectory() as folder:
        return run(exporting(Path(folder), rescore=True))


async def exporting(folder: Path, **more: Any) -> bytes:
    return await exported(await of_notes(folder, **more))


@pytest.mark.parametrize("rescore", [False, True])
def test_an_import_brings_everything_back(tmp_path: Path, rescore: bool) -> None:
    async def main() -> None:
        notes = await opened(tmp_path / "a", rescore=rescore)
        for note in NOTES:
            await notes.put([note])
        await notes.delete(["tax"])
        await notes.put([{**NOTES[0], "fields": {"tag": "street"}}, {"id": "\ud800", "text": "lone \udc00\n\0"}])
        wanted = await notes.search(QUESTION)
        await write_export(notes.store, tmp_path / "file")
        other = await opened(tmp_path / "b", fields={"stars": "number"})
        await other.put([{"id": "gone", "text": "this goes", "fields": {"stars": 1}}])
        assert await other.restore(*source_of(tmp_path / "file")) == 4
        assert await other.search(QUESTION) == wanted
        assert ids(await other.search(where={"tag": "street"})) == ["car"]
        assert await (await opened(tmp_path / "b", rescore=rescore)).search(QUESTION) == wanted
        assert (await other.put([NOTES[1]])).unchanged == 1 and embedded(other) == 1 + 1
        assert await exported(other) == await exported(await opened(tmp_path / "b", rescore=rescore))

    run(main())


def test_who_has_it_open_sees_the_import(tmp_path: Path) -> None:
    whole = file_of_notes()

    async def main() -> None:
        notes, other = await of_notes(tmp_path, rescore=True), await opened(tmp_path)
        await notes.delete(["car"])
        assert len(await other.search(QUESTION)) == 3
        await restore(notes, whole)
        assert ids(await other.search(QUESTION, k=1)) == ["car"]
        assert sorted(ids(await other.search(where={}))) == ["car", "cat", "plain", "tax"]

    run(main())


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_cut_or_altered_file_changes_nothing(data: st.DataObject) -> None:
    whole = file_of_notes()
    if data.draw(st.booleans()):
        bad = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        bad = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    with TemporaryDirectory() as folder:
        run(refused(Path(folder), bad))


async def refused(folder: Path, bad: bytes) -> None:
    notes = await of_notes(folder, rescore=True)
    before = await notes.search(QUESTION), await notes.stats()
    with pytest.raises(errors.InsituError) as raised:
        await restore(notes, bad)
    assert raised.value.code in ("export-corrupt", "collection-version", "space-mismatch")
    assert (await notes.search(QUESTION), (await notes.stats())["revision"]) == (before[0], before[1]["revision"])
    notes.store.close()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": 2}, errors.CollectionVersion),
        ({"format": "another"}, errors.ExportCorrupt),
        ({"format": "insitu-sealed"}, errors.ExportCorrupt),
        ({"space": "another:int8:16:0:0"}, errors.SpaceMismatch),
        ({"fields": {"tag": "text"}}, errors.ExportCorrupt),
        ({"dim": "many"}, errors.ExportCorrupt),
        ({"documents": 3}, errors.ExportCorrupt),
    ],
)
def test_another_file_is_refused_by_its_name(tmp_path: Path, change: Any, kind: type[Exception]) -> None:
    line, _, rest = file_of_notes().partition(b"\n")

    async def main() -> None:
        notes = await of_notes(tmp_path)
        with pytest.raises(kind):
            await restore(notes, json.dumps(json.loads(line) | change).encode() + b"\n" + rest)
        assert len(await notes.search(QUESTION)) == 4

    run(main())


def test_bytes_behind_the_end_are_no_part_of_an_export(tmp_path: Path) -> None:
    run(refused(tmp_path, file_of_notes() + b"\n"))


def test_a_damaged_collection_is_not_exported(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        store = notes.store
        assert isinstance(store, FolderStore)
        store._db.execute("UPDATE segments SET sum = sum + 1")
        with pytest.raises(errors.CollectionCorrupt):
            await exported(notes)
        again = await Collection.open(embedder(), store)
        await again.put(NOTES)
        await again.tidy()
        assert len(await exported(again)) > 1000

    run(main())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ReadFailed):
        source_of(tmp_path / "none")
    with pytest.raises(errors.WriteFailed):
        run(write_export(FolderStore(tmp_path / "c"), tmp_path / "none" / "file"))


# --- under a passphrase ------------------------------------------------------------------------------------------


async def sealed(notes: Collection, path: Path, passphrase: str) -> bytes:
    await write_export(notes.store, path, passphrase)
    with path.open("rb") as file:
        return file.read()


def test_a_sealed_file_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path / "a", rescore=True)
        data = await sealed(notes, tmp_path / "file", "naïve 🐎")
        assert b"car" not in data.partition(b"\n")[2]
        other = await opened(tmp_path / "b", rescore=True)
        with pytest.raises(errors.WrongPassphrase):
            source_of(tmp_path / "file", "naive 🐎")
        with pytest.raises(errors.WrongPassphrase, match="passphrase"):
            source_of(tmp_path / "file")
        with pytest.raises(errors.InvalidArgument):
            source_of(tmp_path / "file", "")
        assert await other.restore(*source_of(tmp_path / "file", "nai\u0308ve 🐎")) == 4
        assert await other.search(QUESTION) == await notes.search(QUESTION)

    run(main())


def test_a_sealed_file_of_many_pieces_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", 100)
    monkeypatch.setattr(files, "ITERATIONS", 10)
    whole = file_of_notes()

    async def main() -> None:
        with (tmp_path / "file").open("wb") as file:
            sealing = files.Sealing(file, "secret")
            for start in range(0, len(whole), 77):
                sealing.write(whole[start : start + 77])
            sealing.close()
        read, size = source_of(tmp_path / "file", "secret")
        assert size == len(whole) and await read(0, size) == whole
        assert await read(350, 1000) == whole[350:1350] and await read(size - 5, 99) == whole[-5:]
        # Two pieces change places; the last one is left out: what is read is never what was not sealed.
        data = (tmp_path / "file").read_bytes()
        line = data.index(b"\n") + 1
        one, two = data[line : line + 116], data[line + 116 : line + 232]
        for bad in (data[:line] + two + one + data[line + 232 :], data[: line + 116 * (len(whole) // 100)]):
            (tmp_path / "bad").write_bytes(bad)
            read, size = source_of(tmp_path / "bad", "secret")
            with pytest.raises(errors.ExportCorrupt):
                await read(0, size)

    run(main())


def test_a_cut_or_altered_sealed_file_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ITERATIONS", 10)

    async def main() -> None:
        notes = await of_notes(tmp_path / "a")
        data = await sealed(notes, tmp_path / "file", "secret")
        revision = (await notes.stats())["revision"]
        places = [0, 20, 90, 150, 200, len(data) // 2, len(data) - 1]
        bad = [data[:cut] for cut in (0, 1, 50, 250, len(data) // 2, len(data) - 1)]
        bad += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places]
        for one in [*bad, data + b"x", data[: data.index(b"\n") + 1]]:
            (tmp_path / "bad").write_bytes(one)
            with pytest.raises((errors.ExportCorrupt, errors.WrongPassphrase, errors.CollectionVersion)):
                await notes.restore(*source_of(tmp_path / "bad", "secret"))
        assert (await notes.stats())["revision"] == revision

    run(main())


def test_without_cryptography_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        await sealed(notes, tmp_path / "file", "secret")
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
        with pytest.raises(errors.RuntimeUnavailable, match=r'pip install "insitu\[sealed\]"'):
            source_of(tmp_path / "file", "secret")
        with pytest.raises(errors.RuntimeUnavailable):
            await write_export(notes.store, tmp_path / "other", "secret")
        assert not (tmp_path / "other").exists()
        await write_export(notes.store, tmp_path / "other")

    run(main())


@pytest.mark.parametrize("file", ["plain", "sealed"])
def test_an_export_of_the_first_format_is_read(tmp_path: Path, file: str) -> None:
    """tests/data/export-v1 was written once and is never written again: whoever changes the format sees it here."""
    passphrase = PASSPHRASE if file == "sealed" else None

    async def main() -> None:
        notes = await opened(tmp_path / "a", dim=16)
        assert await notes.restore(*source_of(FROZEN / f"{file}.insitu", passphrase)) == len(FOUND)
        listed = await notes.search(where={}, k=9)
        assert {hit.id: hit.fields.get("date") for hit in listed} == FOUND
        assert (await notes.search("parked the blue car", 1))[0].id == "car"
        assert (await notes.search("Paragraph 3", 1, words=1))[0].title == "Long"
        await write_export(notes.store, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (FROZEN / "plain.insitu").read_bytes()

    run(main())
