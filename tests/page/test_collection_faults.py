"""What collections must survive: damaged and removed storage, a clock that goes back, a worker that dies."""

from __future__ import annotations

from playwright.sync_api import Page

from page.conftest import OPEN, Serve, caught, opened_on, until
from page.test_collections import FIELDS, MAKE, NOTES, ids


def test_a_damaged_segment_is_named_the_rest_answers_and_a_put_repairs_it(
    opened: Page, second: Page, name: str
) -> None:
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES[:1]])
    opened.evaluate("(all) => notes.put(all)", NOTES[1:3])
    opened.evaluate("(all) => notes.put(all)", NOTES[3:])
    opened.evaluate(
        """(name) => new Promise((done, failed) => {
        const opening = indexedDB.open(`insitu collection ${name}`);
        opening.onsuccess = () => {
            const tx = opening.result.transaction('segments', 'readwrite');
            const store = tx.objectStore('segments');
            store.get(1).onsuccess = ({target: {result}}) => {
                new Uint8Array(result.data)[5] ^= 1;
                store.put(result, 1);
            };
            tx.oncomplete = () => (opening.result.close(), done());
            tx.onerror = failed;
        };
    })""",
        name,
    )
    second.evaluate(MAKE, [name, {}, None])
    assert sorted(ids(second, "where did I park")) == ["car", "tyre"]
    stats = second.evaluate("notes.stats()")
    assert (stats["damaged"], stats["missing"], stats["documents"]) == ([1], 2, 4)
    assert caught(second, "notes.export()")[1] == "collection-corrupt"
    assert second.evaluate("(all) => notes.put(all)", NOTES) == {"embedded": 2, "unchanged": 2, "passages": 2}
    assert ids(second, "what does my pet eat", k=1) == ["cat"]
    until(second, "(await notes.stats()).damaged.length === 0")
    assert second.evaluate("async () => (await notes.stats()).missing") == 0


def test_what_the_browser_removed_is_told(opened: Page, name: str) -> None:
    page = opened.context.new_page()
    page.set_default_timeout(120_000)
    page.goto(opened.url)
    opened.evaluate(MAKE, [name, {}, NOTES[3:]])
    assert opened.evaluate("async () => (await notes.stats()).evicted") is False
    page.evaluate(
        "(name) => new Promise((done) => { indexedDB.deleteDatabase(`insitu collection ${name}`).onsuccess = done; })",
        name,
    )
    assert caught(opened, "notes.search('tube')")[1] == "collection-corrupt"
    page.evaluate(OPEN)
    page.evaluate(MAKE, [name, {}, None])
    stats = page.evaluate("notes.stats()")
    assert (stats["evicted"], stats["documents"]) == (True, 0)
    page.close()


def test_nothing_rests_on_the_clock_of_the_machine(serve_site: Serve, faulty: Page, name: str) -> None:
    back = b"""{
        let now = 2e12;
        const before = () => (now -= 3_600_000);
        Date.now = before;
        globalThis.Date = class extends Date { constructor(...given) { super(...(given.length ? given : [before()])); } };
    }"""
    opened_on(faulty, serve_site(script=back))
    faulty.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES[:2]])
    faulty.evaluate("(all) => notes.put(all)", NOTES[2:])
    faulty.evaluate("notes.put([{id: 'cat', text: 'The aquarium leaks.', fields: {tag: 'new'}}])")
    assert faulty.evaluate("notes.delete(['tax'])") == 1
    faulty.evaluate("insitu.close()")
    faulty.evaluate(OPEN)
    faulty.evaluate(MAKE, [name, {"fields": FIELDS}, None])
    assert ids(faulty, None, where={}) == ["cat", "tyre", "car"]
    assert ids(faulty, "fish tank", k=1) == ["cat"]


def test_a_worker_that_dies_ends_its_calls_and_the_next_one_goes_on(opened: Page, name: str) -> None:
    page = opened.context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(
        "const W = Worker; window.Worker = "
        "class extends W { constructor(...a) { super(...a); window.worker = this; } };"
    )
    page.goto(opened.url)
    page.evaluate(OPEN)
    page.evaluate(MAKE, [name, {}, NOTES[3:]])
    many = [{"id": str(i), "text": f"number {i}"} for i in range(300)]
    dying = """async (many) => {
        const calls = [notes.put(many, {onProgress(done) {
            if (done < 140 || calls.length > 1) return;
            calls.push(notes.search('tube'), notes.export(), notes.delete(['tyre']));
            worker.terminate();
        }})];
        await calls[0].catch(() => undefined);
        return (await Promise.allSettled(calls)).map((call) => call.reason?.code);
    }"""
    assert page.evaluate(dying, many) == ["worker-died"] * 4
    page.evaluate(OPEN)
    page.evaluate(MAKE, [name, {}, None])
    # The page heard of the first commit; the worker may have been further.
    stored = page.evaluate("async () => (await notes.stats()).documents") - 1
    assert stored in (128, 256, 300)
    assert ids(page, "tube", k=1) == ["tyre"]
    again = page.evaluate("(many) => notes.put(many)", many)
    assert again == {"embedded": 300 - stored, "unchanged": stored, "passages": 300 - stored}
    page.close()
