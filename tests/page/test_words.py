"""Words beside the vectors in the page: the same answers as in CPython, for what is here now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from conftest import watched
from page.conftest import OPEN, Serve, caught, opened_on, wait
from page.test_collections import FIELDS, MAKE, NOTES, ids, search
from page.texts import PAGES, QUESTIONS

ODD: list[dict[str, Any]] = [
    {"id": "code", "text": "raised by itertools.groupby: E0502", "fields": {"tag": "work"}},
    {"id": "zh", "text": "我把车停在市政厅后面", "fields": {"tag": "home"}},
    {"id": "hi", "text": "गाड़ी नगर भवन के पीछे खड़ी है", "fields": {"tag": "home"}},
]


def test_words_are_found_and_follow_what_is_written(opened: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, [*NOTES, *ODD]])
    for query, wanted in [("e0502", "code"), ("Groupby!", "code"), ("itertools.groupby", "code"), ("市政厅", "zh")]:
        hits = search(opened, query, words=1)
        assert [hit["id"] for hit in hits] == [wanted], query
        assert hits[0]["score"] == next(hit["score"] for hit in search(opened, query) if hit["id"] == wanted)
        assert ids(opened, query, words=0.9)[0] == wanted
    assert ids(opened, "नगर", words=1) == ["hi"]
    assert ids(opened, "?!", words=1) == ids(opened, "?!")
    assert sorted(ids(opened, "the cat behind", words=1)) == ["car", "cat", "tax", "tyre"]
    assert ids(opened, "the cat behind", words=1, where={"tag": "work"}) == ["tax"]
    assert ids(opened, "the cat behind", words=1, where={"tag": "none such"}) == []
    opened.evaluate("notes.put([{id: 'car', text: 'the red bicycle'}])")
    opened.evaluate("notes.delete(['tax'])")
    assert ids(opened, "hall tax", words=1) == []
    assert ids(opened, "bicycle", words=1) == ["car"]


def test_a_weight_that_is_none_is_named(opened: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {}, NOTES[3:]])
    for weight in ("-0.1", "1.1", "NaN", "'0.3'", "true", "null"):
        name, code, message = caught(opened, f"notes.search('a', {{words: {weight}}})")
        assert (name, code) == ("InvalidArgument", "invalid-argument") and "words" in message, weight


def test_the_page_answers_as_cpython_does(
    opened: Page, model_dir: Path, tmp_path: Path, runtime: Any, name: str
) -> None:
    from insitu.collection.collection import Collection
    from insitu.collection.folder import FolderStore
    from insitu.embedder import Embedder

    documents = [{"id": file, "text": html} for file, html in PAGES.items()]
    opened.evaluate(MAKE, [name, {}, documents])

    async def answers() -> dict[str, list[Any]]:
        notes = await Collection.open(Embedder(runtime, runtime.lock), FolderStore(tmp_path))
        await notes.put(documents)
        return {
            f"{weight} {question}": [(hit.id, hit.text) for hit in await notes.search(question, k=5, words=weight)]
            for question in QUESTIONS
            for weight in (0.3, 1)
        }

    for asked, wanted in wait(answers()).items():
        weight, _, question = asked.partition(" ")
        found = [(hit["id"], hit["text"]) for hit in search(opened, question, k=5, words=float(weight))]
        # What comes last has next to nothing of the question, in either engine.
        assert found[:1] == wanted[:1] and len({*found} & {*wanted}) >= len(wanted) - 2, asked


def test_a_rare_word_outweighs_two_frequent_ones(opened: Page, name: str) -> None:
    notes = [{"id": f"both {i}", "text": f"alpha beta n{i}"} for i in range(9)]
    notes += [{"id": f"none {i}", "text": f"gamma delta n{i}"} for i in range(10)]
    opened.evaluate(MAKE, [name, {}, [*notes, {"id": "rare", "text": "gamma delta zeta"}]])
    assert ids(opened, "alpha beta zeta", words=1)[0] == "rare"  # as BM25 has it; MiniSearch's own order has it last


def test_another_tab_is_followed_and_the_library_comes_with_the_first_words(
    browser: Browser, serve_site: Serve, name: str
) -> None:
    served = serve_site()
    with watched(browser) as one:
        opened_on(one, served)
        one.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES])
        assert ids(one, "tube")[0] == "tyre"
        assert not [path for path in served.asked if "words.js" in path]
        two = one.context.new_page()
        two.goto(served.address + "empty.html")
        two.evaluate(OPEN, {})
        two.evaluate(MAKE, [name, {"fields": FIELDS}, None])
        for page in (one, two):
            assert ids(page, "hall", words=1) == ["car"]
        assert [path for path in served.asked if "words.js" in path]
        two.evaluate("notes.put([{id: 'car', text: 'the red bicycle'}])")
        two.evaluate("notes.delete(['tax'])")
        one.wait_for_timeout(1100)
        assert ids(one, "hall tax", words=1) == []
        assert ids(one, "bicycle", words=1) == ["car"]
        two.close()


def test_an_import_brings_its_words(opened: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, ODD[:1]])
    assert ids(opened, "groupby", words=1) == ["code"]
    swap = """async ([name, notes]) => {
        const other = await insitu.collection(`${name} exported`);
        await other.put(notes);
        window.notes = await insitu.import(name, await other.export());
    }"""
    opened.evaluate(swap, [name, [{key: note[key] for key in ("id", "text")} for note in NOTES]])
    assert ids(opened, "groupby", words=1) == []
    assert ids(opened, "hall", words=1) == ["car"]


def test_an_abort_ends_a_search_by_words(opened: Page, name: str) -> None:
    many = [{"id": str(i), "text": f"Note {i}: it is {i} o'clock."} for i in range(260)]
    opened.evaluate(MAKE, [name, {}, many])
    act = """async () => {
        const stop = new AbortController();
        const search = notes.search('clock', {words: 1, signal: stop.signal});
        setTimeout(() => stop.abort(), 1);
        return search.then(() => 'done', ({ code }) => code);
    }"""
    assert opened.evaluate(act) == "aborted"
    assert len(ids(opened, "clock", words=1, k=300)) == 260
    assert json.dumps(ids(opened, "259", words=1)) == '["259"]'


KEPT = """async ([name, from, to]) => {
    const db = await new Promise((done, failed) => {
        const asked = indexedDB.open(`insitu collection ${name}`);
        asked.onsuccess = () => done(asked.result);
        asked.onerror = () => failed(asked.error);
    });
    const request = (asked) => new Promise((done, failed) => {
        asked.onsuccess = () => done(asked.result);
        asked.onerror = () => failed(asked.error);
    });
    const kept = await request(db.transaction('words').objectStore('words').get('index'));
    if (kept && from) {
        const through = (blob, stream) => new Response(blob.stream().pipeThrough(stream)).blob();
        const json = await (await through(kept.data, new DecompressionStream('gzip'))).text();
        const changed = new Blob([json.replaceAll(from, to)]);
        kept.data = await through(changed, new CompressionStream('gzip'));
        await request(db.transaction('words', 'readwrite').objectStore('words').put(kept, 'index'));
    }
    db.close();
    return kept ? kept.documents.length : 0;
}"""


def test_a_large_index_is_kept_and_made_anew_where_it_cannot_be_read(
    browser: Browser, serve_site: Serve, runtime: Any, tmp_path: Path, name: str
) -> None:
    from insitu.collection.collection import Collection
    from insitu.collection.files import write_export
    from insitu.collection.folder import FolderStore
    from insitu.embedder import Embedder

    async def export() -> None:
        notes = await Collection.open(Embedder(runtime, runtime.lock), FolderStore(tmp_path / "folder"))
        await notes.put([{"id": str(i), "text": f"note n{i}"} for i in range(1100)])
        await write_export(notes.store, tmp_path / "file")

    wait(export())
    served = serve_site()
    with watched(browser) as page:
        opened_on(page, served)
        page.evaluate("() => { window.put = new Promise((done) => { window.give = done; }); }")
        with page.expect_file_chooser() as chooser:
            page.evaluate("""() => {
                const input = document.createElement('input');
                input.type = 'file';
                input.onchange = () => give(input.files[0]);
                input.click();
            }""")
        chooser.value.set_files(tmp_path / "file")
        page.evaluate("async (name) => { window.notes = await insitu.import(name, await put); }", name)
        assert ids(page, "n700", words=1) == ["700"]
        for _ in range(100):
            if page.evaluate(KEPT, [name, None, None]):
                break
            page.wait_for_timeout(200)
        assert page.evaluate(KEPT, [name, '"n700"', '"changed"']) == 1100
        page.evaluate("notes.delete(['5'])")
        opened_on(page, served)
        page.evaluate(MAKE, [name, {}, [{"id": "new", "text": "one more, n5"}]])
        assert ids(page, "changed", words=1) == ["700"]  # so it was read
        assert ids(page, "n700", words=1) == []
        assert ids(page, "n5", words=1) == ["new"]  # and what came and went since is known
        page.evaluate(KEPT, [name, "{", ""])
        opened_on(page, served)
        page.evaluate(MAKE, [name, {}, None])
        assert ids(page, "n700", words=1) == ["700"]
