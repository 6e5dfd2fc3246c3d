"""The texts of a small collection come into memory, and are always those of the state that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from many_documents import write_export
from page.conftest import Serve, opened_on, until
from page.test_collections import FIELDS, MAKE, NOTES, ids, search

HELD = "(await notes.stats()).held > 0"
# Behind the back of everybody: no revision tells of it.
TAKE_TEXTS = """(name) => new Promise((done, failed) => {
    const opening = indexedDB.open(`insitu collection ${name}`);
    opening.onsuccess = () => {
        const tx = opening.result.transaction(['texts', 'texts 2'], 'readwrite');
        for (const store of tx.objectStoreNames) tx.objectStore(store).clear();
        tx.oncomplete = () => (opening.result.close(), done());
        tx.onabort = () => failed(tx.error);
    };
})"""


@pytest.fixture
def held(opened: Page, name: str) -> Page:
    """A page with four notes in `notes`, whose texts are in memory."""
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES])
    assert not opened.evaluate(f"async () => {HELD}")
    search(opened, "car")
    until(opened, HELD, 5000)
    return opened


def test_an_answer_needs_no_text_of_the_database(held: Page, name: str) -> None:
    wanted = search(held, "where did I park", where={"tag": "home"})
    held.evaluate(TAKE_TEXTS, name)
    assert [hit["id"] for hit in wanted] == ["car", "cat"]
    assert search(held, "where did I park", where={"tag": "home"}) == wanted


def test_what_this_page_commits_is_in_memory_at_once(held: Page, name: str) -> None:
    changed = {"id": "cat", "text": "The cat 🐈 sleeps on the roof.", "title": "\ud800", "fields": {"tag": "street"}}
    held.evaluate("(note) => notes.put([note])", changed)
    held.evaluate("(note) => notes.put([note])", NOTES[2] | {"fields": {"tag": "done"}})
    held.evaluate("notes.delete(['tyre'])")
    held.evaluate("notes.put([{id: 'new', text: 'A bicycle without a saddle.'}])")
    assert held.evaluate(f"async () => {HELD}")
    held.evaluate(TAKE_TEXTS, name)
    hits = {hit["id"]: (hit["title"], hit["text"], hit["fields"]) for hit in search(held, "bicycle")}
    assert hits == {
        "car": ("", NOTES[0]["text"], NOTES[0]["fields"]),
        "cat": ("\ud800", changed["text"], {"tag": "street"}),
        "tax": ("", NOTES[2]["text"], {"tag": "done"}),
        "new": ("", "A bicycle without a saddle.", {}),
    }


def test_what_another_tab_commits_takes_their_place(held: Page, second: Page, name: str) -> None:
    second.evaluate(MAKE, [name, {}, [NOTES[0] | {"fields": {"tag": "moved"}}]])
    until(held, "(await notes.search('car'))[0].fields.tag === 'moved'", 1000)
    second.evaluate("notes.delete(['tax'])")
    until(held, "(await notes.search('car')).length === 3", 1000)
    until(held, HELD, 5000)
    held.evaluate(TAKE_TEXTS, name)
    assert sorted(ids(held, "car")) == ["car", "cat", "tyre"]


def test_another_content_takes_their_place(held: Page) -> None:
    """An import and embedding anew change where the content lies."""
    held.evaluate("async () => { window.file = await notes.export(); await notes.delete(['car']); }")
    held.evaluate("async () => { window.notes = await insitu.import(notes.name, file); }")
    assert len(ids(held, "car")) == 4
    until(held, HELD, 5000)
    held.evaluate("notes.reembed({dim: 64})")
    assert len(ids(held, "car")) == 4
    until(held, HELD, 5000)


def test_texts_are_in_memory_where_codes_at_full_size_are_kept(opened: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {"rescore": True}, [{"id": "car", "text": NOTES[0]["text"]}]])
    wanted = search(opened, "where did I park")
    until(opened, HELD, 5000)
    assert search(opened, "where did I park") == wanted


def test_of_many_texts_none_is_held(serve_site: Serve, faulty: Page, runtime: Any, tmp_path: Path) -> None:
    """17 MB of them: what says so is, in turn, the record of the collection and, where it says less, the texts."""
    file = tmp_path / "large.insitu"
    vectors = np.eye(17, 128, dtype=np.int8) * 127
    for text in ("x" * 1_000_000, '"' * 600_000):  # a quote takes two bytes more in memory than the record says

        def document(number: int, text: str = text) -> dict[str, Any]:
            return {"id": f"note {number}", "text": text, "cuts": [0, 10]}

        space = runtime.lock.space(128).name
        write_export(file, space, vectors, np.full(17, 1 / 127, np.float32), {}, document)
        served = serve_site()
        served.instead["/large.insitu"] = file.read_bytes()
        opened_on(faulty, served)
        faulty.evaluate("""async () => {
            window.notes = await insitu.import('large', await (await fetch('/large.insitu')).blob());
        }""")
        for _ in range(3):
            assert [hit["text"] for hit in search(faulty, "a")] == [text[:10]] * 10
            faulty.wait_for_timeout(500)
        assert not faulty.evaluate(f"async () => {HELD}")
