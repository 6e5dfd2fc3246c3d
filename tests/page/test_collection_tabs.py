"""Several tabs with one collection: both write, each sees what the other did, a newer release comes."""

from __future__ import annotations

from playwright.sync_api import Page

from page.conftest import OPEN, Serve, caught, opened_on, until
from page.test_collections import FIELDS, MAKE, NOTES, ids


def test_another_tab_sees_changes_within_a_second(opened: Page, second: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES[:2]])
    second.evaluate(MAKE, [name, {"fields": FIELDS}, None])
    assert sorted(ids(second, "car")) == ["car", "cat"]
    opened.evaluate("(all) => notes.put(all)", NOTES[2:])
    until(second, "(await notes.search('car')).length === 4", 1000)
    second.evaluate("notes.delete(['car'])")
    until(opened, "(await notes.search('car')).length === 3", 1000)
    second.evaluate("notes.put([{id: 'cat', text: 'a dog', fields: {tag: 'street'}}])")
    assert opened.evaluate("async () => (await notes.search(null, {where: {tag: 'street'}}))[0].text") == "a dog"


def test_a_commit_that_nobody_told_of_is_seen_after_a_second(serve_site: Serve, faulty: Page) -> None:
    opened_on(faulty, serve_site(script=b"delete globalThis.BroadcastChannel;"))
    faulty.evaluate(MAKE, ["silent", {"fields": FIELDS}, NOTES[:2]])
    writer = faulty.context.new_page()
    writer.goto(faulty.url)
    writer.evaluate(OPEN)
    writer.evaluate(MAKE, ["silent", {}, None])
    assert sorted(ids(faulty, "car")) == ["car", "cat"]
    writer.evaluate("(all) => notes.put(all)", NOTES[2:])
    faulty.wait_for_timeout(1100)
    assert len(ids(faulty, "car")) == 4


def test_two_tabs_may_write_at_once(opened: Page, second: Page, name: str) -> None:
    for page in (opened, second):
        page.evaluate(MAKE, [name, {}, None])
    put = """(who) => {
        const all = Array.from({length: 1000}, (_, i) => ({id: `${who} ${i}`, text: `${who} ${i}`}));
        window.putting = notes.put(all);
    }"""
    opened.evaluate(put, "left")
    second.evaluate(put, "right")
    for page in (opened, second):
        assert page.evaluate("putting") == {"embedded": 1000, "unchanged": 0, "passages": 1000}
    for page in (opened, second):
        stats = page.evaluate("notes.stats()")
        assert (stats["documents"], stats["passages"], stats["dead"]) == (2000, 2000, 0)
        found = ids(page, "left", k=1000) + ids(page, "right", k=1000)
        assert {id.split()[0] for id in found} == {"left", "right"}


def test_a_newer_release_in_another_tab_need_not_wait(opened: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {}, NOTES[3:]])
    upgrade = """(name) => new Promise((done) => {
        const opening = indexedDB.open(`insitu collection ${name}`, 99);
        opening.onblocked = () => done('blocked');
        opening.onsuccess = () => (opening.result.close(), done('upgraded'));
    })"""
    assert opened.evaluate(upgrade, name) == "upgraded"
    assert caught(opened, "notes.stats()")[1] == "collection-version"
    assert caught(opened, "insitu.collection(notes.name)")[1] == "collection-version"
    assert caught(opened, "notes.put([{id: 'a', text: 'b'}])")[1] == "collection-version"
