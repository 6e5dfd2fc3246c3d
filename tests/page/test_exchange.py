"""Export and import in the page: the file that CPython reads too, sealed if wanted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from frozen import FOUND, FROZEN, PASSPHRASE, of_space
from insitu.collection.collection import Collection
from insitu.collection.files import source_of, write_export
from insitu.collection.folder import FolderStore
from insitu.embedder import Embedder
from page.conftest import caught, wait
from page.test_collections import FIELDS, MAKE, NOTES

QUESTION = "where did I park"
FILE = """async (options) => {
    const file = await notes.export(options);
    const url = await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(file);
    });
    return url.slice(url.indexOf(',') + 1);
}"""
IMPORT = """async ([name, data, options]) => {
    const file = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
    window.imported = await insitu.import(name, file, options);
    return imported.search('where did I park');
}"""


@pytest.fixture(scope="module")
def notes(opened: Page) -> Iterator[Page]:
    opened.evaluate(MAKE, [__name__, {"fields": FIELDS, "rescore": True}, NOTES])
    opened.evaluate("notes.delete(['tax'])")
    yield opened


def export(page: Page, **options: Any) -> bytes:
    return base64.b64decode(page.evaluate(FILE, options))


def restore(page: Page, name: str, data: bytes, **options: Any) -> Any:
    return page.evaluate(IMPORT, [name, base64.b64encode(data).decode(), options])


def refused(page: Page, name: str, data: bytes, **options: Any) -> str:
    arguments = f"({IMPORT})([{name!r}, '{base64.b64encode(data).decode()}', options])"
    page.evaluate("(options) => { window.options = options; }", options)
    return caught(page, arguments)[1]


def search(page: Page) -> Any:
    return page.evaluate("notes.search('where did I park')")


def test_an_export_comes_back_whole(notes: Page, name: str) -> None:
    wanted = search(notes)
    assert wanted[0]["id"] == "car" and len(wanted) == 3
    assert restore(notes, name, export(notes)) == wanted
    assert notes.evaluate("async () => (await imported.put([])).embedded") == 0
    assert notes.evaluate("async () => (await imported.search(null, {where: {tag: 'home'}})).length") == 2


def test_a_file_that_a_frame_chose_is_imported(notes: Page, name: str) -> None:
    """A Blob of another window is of another class Blob."""
    framed = """async (name) => {
        const frame = document.createElement('iframe');
        document.body.append(frame);
        const file = new frame.contentWindow.Blob([await notes.export()]);
        const restored = await insitu.import(name, file);
        frame.remove();
        return [file instanceof Blob, (await restored.stats()).documents];
    }"""
    assert notes.evaluate(framed, name) == [False, 3]
    assert caught(notes, "insitu.import('other', {size: 1})")[1] == "invalid-argument"


def test_an_import_replaces_what_was_there(notes: Page) -> None:
    wanted, data = search(notes), export(notes)
    notes.evaluate("notes.put([{id: 'more', text: 'I parked the car in the garage.'}])")
    assert len(search(notes)) == 4
    assert restore(notes, __name__, data) == wanted
    assert search(notes) == wanted, "the handle from before the import goes on"


def test_cpython_reads_the_file_of_the_page_and_the_page_that_of_cpython(
    notes: Page, runtime: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / "page").write_bytes(export(notes))
    embedder = Embedder(runtime, runtime.lock)

    async def main() -> tuple[list[Any], bytes]:
        native = await Collection.open(embedder, FolderStore(tmp_path / "c"), rescore=True)
        await native.restore(*source_of(tmp_path / "page"))
        assert (await native.put(NOTES)).unchanged == 3
        await native.delete(["tax"])
        await write_export(native.store, tmp_path / "file")
        return await native.search(QUESTION), (tmp_path / "file").read_bytes()

    hits, data = wait(main())
    wanted = search(notes)
    assert [hit.id for hit in hits] == [hit["id"] for hit in wanted]
    assert all(abs((a.score or 0) - b["score"]) < 0.01 for a, b in zip(hits, wanted, strict=True))
    assert restore(notes, name, data) == wanted


def test_a_sealed_file_opens_with_its_passphrase_only(notes: Page, name: str) -> None:
    wanted, data = search(notes), export(notes, passphrase="naïve 🐎")
    assert b"car" not in data.partition(b"\n")[2]
    assert restore(notes, name, data, passphrase="nai\u0308ve 🐎") == wanted
    assert refused(notes, __name__, data, passphrase="naive 🐎") == "wrong-passphrase"
    assert refused(notes, __name__, data) == "wrong-passphrase"
    assert refused(notes, __name__, data, passphrase="") == "invalid-argument"
    assert search(notes) == wanted


def test_sealed_files_go_both_ways_between_cpython_and_the_page(
    notes: Page, runtime: Any, tmp_path: Path, name: str
) -> None:
    (tmp_path / "page").write_bytes(export(notes, passphrase="naïve 🐎"))

    async def main() -> bytes:
        native = await Collection.open(Embedder(runtime, runtime.lock), FolderStore(tmp_path / "c"), rescore=True)
        assert await native.restore(*source_of(tmp_path / "page", "nai\u0308ve 🐎")) == 3
        await write_export(native.store, tmp_path / "file", "correct horse")
        return (tmp_path / "file").read_bytes()

    data, wanted = wait(main()), search(notes)
    assert restore(notes, name, data, passphrase="correct horse") == wanted
    assert refused(notes, __name__, data, passphrase="wrong horse") == "wrong-passphrase"


def test_an_export_of_the_first_format_is_read(notes: Page, runtime: Any, name: str) -> None:
    """tests/data/export-v1, as in tests/test_exchange.py; its vectors are of no real model."""
    data = of_space(runtime.lock.space(16).name)
    restore(notes, name, data)
    listed = notes.evaluate("async () => JSON.stringify(await imported.search(null, {where: {}}))")
    assert {hit["id"]: hit["fields"].get("date") for hit in json.loads(listed)} == FOUND
    assert notes.evaluate("async () => (await imported.search('Paragraph 3', {words: 1, k: 1}))[0].title") == "Long"
    again = base64.b64decode(notes.evaluate(f"async () => {{ const notes = imported; return ({FILE})({{}}); }}"))
    between = [file.partition(b"\n")[2].rpartition(b'{"end"')[0] for file in (again, data)]  # both ends name the header
    assert between[0] == between[1]
    sealed = (FROZEN / "sealed.insitu").read_bytes()
    assert refused(notes, name, sealed, passphrase=PASSPHRASE) == "space-mismatch"  # it was opened
    assert refused(notes, name, sealed, passphrase="close sesame") == "wrong-passphrase"


@pytest.mark.parametrize("sealed", [False, True])
def test_a_cut_or_altered_file_changes_nothing(notes: Page, sealed: bool) -> None:
    wanted = search(notes)
    options = {"passphrase": "secret"} if sealed else {}
    data = export(notes, **options)
    places = [0, 30, len(data) // 3, len(data) // 2, len(data) - 90, len(data) - 2]
    bad = [data[:cut] for cut in (0, 1, len(data) // 2, len(data) - 1)]
    bad += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places]
    codes = {refused(notes, __name__, one, **options) for one in [*bad, data + b"x"]}
    assert codes <= {"export-corrupt", "collection-version", "space-mismatch", "wrong-passphrase"}
    assert "export-corrupt" in codes
    assert search(notes) == wanted
    assert notes.evaluate("async () => (await notes.stats()).documents") == 3
