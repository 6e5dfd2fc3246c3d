"""A collection in the page comes into the space of another model, which runs in a worker of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from conftest import watched
from page.conftest import OPEN, caught, opened_on
from page.folder import Served
from page.test_collections import FIELDS, MAKE, NOTES

PARK = "notes.search('where did I park')"
MANY = [{"id": str(i), "text": f"The text of number {i} is short."} for i in range(300)]


@pytest.fixture(scope="module")
def other(site: Path, model_url: str) -> str:
    """The path of another model's lock: the same files with another prompt, so another space."""
    folder = site / "other"
    shutil.copytree((site / model_url[1:]).parent, folder)
    lock = json.loads((folder / "model.lock.json").read_text())
    lock["name"] = "other"
    lock["prompts"] |= {"document": "a note: "}
    lock["canary"] = []
    (folder / "model.lock.json").write_text(json.dumps(lock))
    return "/other/model.lock.json"


@pytest.fixture(scope="module")
def tab(browser: Browser, site: Path, other: str) -> Iterator[Page]:
    """A page whose `insitu` is closed after the tests, with the workers that they have it start."""
    assert other
    with Served(site).running() as served, watched(browser, silent=True, origins=(served.address,)) as page:
        opened_on(page, served)
        yield page


def documents(page: Page) -> Any:
    return page.evaluate(
        "async () => (await notes.search(null, {where: {}, k: 1000})).map(({id, text, fields}) => [id, text, fields]).sort()"
    )


def test_a_model_of_another_space_is_refused_with_the_way_out(tab: Page, other: str, name: str) -> None:
    tab.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES])
    tab.evaluate("async (model) => { window.next = await (await import('/insitu/insitu.js')).open({model}); }", other)
    _, code, message = caught(tab, f"next.collection({name!r})")
    assert code == "space-mismatch"
    assert "minilm-l6:" in message and "other:" in message and "reembed" in message
    steps = tab.evaluate(
        """async (name) => {
        const steps = [];
        window.notes = await next.collection(name, {reembed: true, onProgress: (...step) => steps.push(step)});
        return steps;
    }""",
        name,
    )
    assert steps[-1] == [4, 4]
    assert tab.evaluate(f"async () => (await {PARK})[0].id") == "car"
    assert tab.evaluate("async () => (await notes.stats()).space").startswith("other:")
    assert caught(tab, f"insitu.collection({name!r})")[1] == "space-mismatch"
    tab.evaluate("next.close()")


def test_it_answers_meanwhile_keeps_what_is_written_and_changes_over_by_itself(
    tab: Page, other: str, name: str
) -> None:
    tab.evaluate(MAKE, [name, {"fields": FIELDS}, [*NOTES, *MANY]])
    wanted = tab.evaluate(PARK)
    found = tab.evaluate(
        """async (model) => {
            const answers = [];
            let done = false, wrote = false;
            const moving = notes.reembed({model, onProgress(now) {
                if (now < 140 || wrote) return;
                wrote = true;
                window.writing = Promise.all([
                    notes.put([{id: 'late', text: 'It was put while all was embedded anew.', fields: {tag: 'late'}}]),
                    notes.put([{id: 'car', text: 'I parked the blue car behind the town hall.', fields: {tag: 'moved'}}]),
                    notes.delete(['7', '250']),
                ]);
            }}).finally(() => (done = true));
            while (!done) answers.push([await notes.search('where did I park'), (await notes.stats()).space]);
            await Promise.all([moving, writing]);
            return answers;
        }""",
        other,
    )
    old = [hits for hits, space in found if space.startswith("minilm")]
    assert len(old) > 2
    for hits in old:
        assert [hit["id"] for hit in hits[:1]] == ["car"] and hits[0]["score"] == wanted[0]["score"]
    assert tab.evaluate("async () => (await notes.stats()).space").startswith("other:")
    here = {id: fields for id, _, fields in documents(tab)}
    assert here.keys() == {note["id"] for note in [*NOTES, *MANY]} - {"7", "250"} | {"late"}
    assert here["car"] == {"tag": "moved"} and here["late"] == {"tag": "late"}
    assert tab.evaluate("async () => (await notes.search('where did I park'))[0].id") == "car"
    assert tab.evaluate("async () => (await notes.search(null, {where: {tag: 'moved'}}))[0].id") == "car"
    assert tab.evaluate("(all) => notes.put(all)", NOTES[1:2]) == {"embedded": 0, "unchanged": 1, "passages": 0}
    # The vectors are those of a collection that was never in another space.
    scores = tab.evaluate(
        "async () => (await notes.search('town', {k: 1000})).map(({id, score}) => [id, score]).sort()"
    )
    fresh = tab.evaluate(
        """async ([name, model, all]) => {
            const next = await (await import('/insitu/insitu.js')).open({model});
            const fresh = await next.collection(name);
            await fresh.put(all);
            const found = (await fresh.search('town', {k: 1000})).map(({id, score}) => [id, score]).sort();
            next.close();
            return found;
        }""",
        [
            f"{name} fresh",
            other,
            [{"id": id, "text": text, "title": "Minka" if id == "cat" else ""} for id, text, _ in documents(tab)],
        ],
    )
    assert [id for id, _ in fresh] == [id for id, _ in scores]
    assert max(abs(a - b) for (_, a), (_, b) in zip(fresh, scores, strict=True)) < 1e-3


def test_one_that_is_killed_half_way_leaves_the_old_whole_and_is_gone_on_with(
    tab: Page, browser: Browser, other: str, name: str
) -> None:
    tab.evaluate(MAKE, [name, {"fields": FIELDS}, [*NOTES, *MANY]])
    wanted, all_of_it = tab.evaluate(PARK), documents(tab)
    page = tab.context.new_page()
    page.set_default_timeout(120_000)
    page.goto(tab.url)
    page.evaluate("""() => {
        const {Worker: W} = window;
        window.workers = [];
        window.Worker = class extends W { constructor(...a) { super(...a); workers.push(this); } };
    }""")
    page.evaluate(OPEN)
    page.evaluate(MAKE, [name, {}, None])
    code = page.evaluate(
        """(model) => notes.reembed({model, onProgress: (done) => done > 200 && workers.at(-1).terminate()})
            .then(() => 'done', (error) => error.code)""",
        other,
    )
    assert code == "worker-died"
    assert page.evaluate(PARK) == wanted, "the worker with the old model lives"
    page.close()
    assert (tab.evaluate(PARK), documents(tab)) == (wanted, all_of_it)
    first = tab.evaluate(
        """async (model) => {
            let first;
            await notes.reembed({model, onProgress: (done) => (first ??= done)});
            return first;
        }""",
        other,
    )
    assert 128 <= first < 304, "the first commit was kept"
    assert documents(tab) == all_of_it
    assert tab.evaluate(f"async () => (await {PARK})[0].id") == "car"


def test_an_abort_leaves_the_old_whole(tab: Page, other: str, name: str) -> None:
    tab.evaluate(MAKE, [name, {"fields": FIELDS}, [*NOTES, *MANY[:200]]])
    wanted = tab.evaluate(PARK)
    code = tab.evaluate(
        """(model) => {
            const stop = new AbortController();
            return notes.reembed({model, signal: stop.signal, onProgress: (done) => done > 100 && stop.abort()})
                .then(() => 'done', (error) => error.code);
        }""",
        other,
    )
    assert code == "aborted"
    assert tab.evaluate(PARK) == wanted
    assert tab.evaluate("async () => (await notes.stats()).space").startswith("minilm")
    assert caught(tab, "notes.reembed({model: '/none/model.lock.json'})")[1] == "fetch-failed"
    assert tab.evaluate(PARK) == wanted


def test_the_same_model_may_take_another_size(tab: Page, name: str) -> None:
    tab.evaluate(MAKE, [name, {"fields": FIELDS, "dim": 64}, NOTES])
    assert caught(tab, "insitu.collection(notes.name, {dim: 32})")[1] == "invalid-argument"
    tab.evaluate("notes.reembed({dim: 256, rescore: true})")
    stats = tab.evaluate("notes.stats()")
    assert (stats["dim"], stats["rescore"], stats["documents"]) == (256, 384, 4)
    assert tab.evaluate(f"async () => (await {PARK})[0].id") == "car"
    tab.evaluate("insitu.collection(notes.name, {dim: 256})")
