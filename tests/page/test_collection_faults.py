"""What collections must survive: tabs that are killed, full and damaged storage, several tabs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Playwright

from conftest import CHROMIUM_ARGS
from page.conftest import OPEN, Serve, bundle, caught, opened_on
from page.folder import Served
from page.test_collections import FIELDS, MAKE, NOTES

Stamps = dict[str, str]
# 10,000 where there is time: see docs/development.md.
OPERATIONS = int(os.environ.get("INSITU_OPERATIONS", "1000"))

# Commits until the page is killed; each step is logged once it is acknowledged.
WRITE = """([act, seed]) => { void (async () => {
    const { batch, openStore, renew } = await import('/store_parts.js');
    const store = await openStore('killed');
    const nothing = new Uint8Array(0);
    const bare = {rows: 0, dead: 0, documents: 0, changes: 0, bytes: 0, segments: []};
    const steps = {
        put: (ids, stamp) => store.commit(...batch(ids, stamp)),
        delete: (ids) => store.commit(JSON.stringify({put: [], touch: [], delete: ids.slice(0, 20)}), nothing, nothing),
        compact: () => store.compact(),
        fold: async () => store.fold(Int32Array.from(JSON.parse(await store.meta()).segments.slice(-3), ([first]) => first)),
        import: async (ids, stamp) => {
            await store.stage(JSON.stringify({...JSON.parse(await store.meta()), ...bare}), false);
            for (const half of [ids.slice(0, 20), ids.slice(20)]) await store.commitNext(...batch(half, stamp));
            await store.swap(false, new Int32Array(0));
        },
        reembed: () => renew(store),
    };
    for (let i = 0; ; i++) {
        const ids = Array.from({length: 40}, (_, j) => String((seed * 7 + i * 13 + j) % 150));
        for (const step of act.split(' ')) {
            await steps[step](ids, `${seed}.${i}`);
            console.log('done');
        }
    }
})(); }"""
EXAMINE = """async () => {
    const { examine, openStore } = await import('/store_parts.js');
    return examine(await openStore('killed'));
}"""

FILL = """async () => {
    const { batch, openStore } = await import('/store_parts.js');
    const store = await openStore('killed');
    for (let i = 0; i < 30; i++) {
        // Nothing that a database could compress.
        const words = Array.from(crypto.getRandomValues(new Uint8Array(50_000)), (n) => n.toString(36)).join('');
        const ids = Array.from({length: 20}, (_, j) => `large ${i} ${j}`);
        try { await store.commit(...batch(ids, words)); }
        catch (error) { return [i, error.code]; }
    }
    return [30, 'no error'];
}"""


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    for name in ("store_parts", "store_walk"):
        bundle(f"{name}.ts", site / f"{name}.js")
    with Served(site).running() as served:
        yield served


@pytest.fixture(scope="module")
def disk(playwright: Playwright, chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser of its own whose profile lies on the disk, and whose processes may be killed."""
    folder = tmp_path_factory.mktemp("profile")
    options = [*CHROMIUM_ARGS, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    with subprocess.Popen([chromium_path, *options, "about:blank"], stderr=subprocess.DEVNULL) as process:
        port = folder / "DevToolsActivePort"
        for _ in range(300):
            if port.exists() and port.read_text():
                break
            time.sleep(0.1)
        browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port.read_text().split()[0]}")
        yield browser
        browser.close()
        process.terminate()


def kill_pages(browser: Browser) -> None:
    """SIGKILL to every process of this browser that runs a page."""
    session = browser.new_browser_cdp_session()
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            os.kill(process["id"], signal.SIGKILL)
    session.detach()


def new_page(browser: Browser, served: Served) -> Page:
    """The browser keeps a process ready for the next page; if that was killed too, the first page in it is dead at once."""
    for _ in range(5):
        with contextlib.suppress(Error):
            page = browser.contexts[0].new_page()
            page.goto(served.address + "empty.html")
            return page
    pytest.fail("The browser opens no page any more.")


def after(stamps: Stamps, act: str, seed: int, steps: int) -> Stamps:
    """What must be there after so many steps of `WRITE`."""
    state, names = dict(stamps), act.split()
    for number in range(steps):
        i, step = number // len(names), names[number % len(names)]
        ids = [str((seed * 7 + i * 13 + j) % 150) for j in range(40)]
        if step == "import":
            state.clear()
        if step in ("put", "import"):
            state |= dict.fromkeys(ids, f"{seed}.{i}")
        elif step == "delete":
            for id in ids[:20]:
                state.pop(id, None)
    return state


def log(done: list[str], message: ConsoleMessage) -> None:
    done.append(message.text)


def test_a_tab_killed_at_any_moment_loses_nothing_that_was_acknowledged(disk: Browser, served: Served) -> None:
    chance = random.Random(4)
    stamps: Stamps = {}
    acts = ["put", "put delete", "put fold put compact", "import", "put put delete fold compact import", "put reembed"]
    for seed in range(50):
        act = acts[seed % len(acts)]
        page = new_page(disk, served)
        done: list[str] = []
        page.on("console", partial(log, done))
        with page.expect_event("crash", timeout=30_000):
            with page.expect_console_message(timeout=30_000):
                page.evaluate(WRITE, [act, seed])
            page.wait_for_timeout(chance.uniform(0, 150))
            kill_pages(disk)
        page.close()
        assert set(done) == {"done"}
        page = new_page(disk, served)
        found = page.evaluate(EXAMINE)
        page.close()
        assert found["wrong"] == [], (act, seed)
        # The step under way happened or did not; the message of one or two that did may have died with the page.
        possible = [after(stamps, act, seed, len(done) + more) for more in range(4)]
        assert found["stamps"] in possible, (act, seed, len(done))
        stamps = found["stamps"]


def test_a_full_disk_ends_a_commit_and_harms_nothing(disk: Browser, site: Path, served: Served) -> None:
    assert served  # it has bundled the parts
    with Served(site).running() as fresh:  # an origin of its own: the browser remembers for a while how much was free
        page = new_page(disk, fresh)
        session = disk.contexts[0].new_cdp_session(page)
        origin = fresh.address.rstrip("/")
        session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 20_000_000})
        done, code = page.evaluate(FILL)
        assert code == "disk-full" and done > 0
        session.send("Storage.overrideQuotaForOrigin", {"origin": origin})
        found = page.evaluate(EXAMINE)
        assert found["wrong"] == []
        assert len(found["stamps"]) == 20 * done
        page.close()


def test_compaction_writes_whole_documents_into_segments(disk: Browser, served: Served) -> None:
    page = new_page(disk, served)
    found = page.evaluate("""async () => {
        const { batch, examine, openStore } = await import('/store_parts.js');
        const store = await openStore('large');
        const ids = (from) => Array.from({length: 2000}, (_, i) => `${from + i}`);
        for (const from of [0, 2000, 4000]) await store.commit(...batch(ids(from), `from ${from}`));
        const gone = [...ids(500), ...ids(5000)];
        const nothing = new Uint8Array(0);
        const [, , deleted] = JSON.parse(await store.commit(JSON.stringify({put: [], touch: [], delete: gone}), nothing, nothing));
        await store.compact();
        const { segments, dead } = JSON.parse(await store.meta());
        return {...await examine(store), deleted, segments, dead};
    }""")
    page.close()
    kept = {str(i) for i in range(6000) if not 500 <= i < 2500 and not i >= 5000}
    assert found["wrong"] == [] and found["deleted"] == 3000 and found["dead"] == 0
    assert found["stamps"] == {id: f"from {int(id) // 2000 * 2000}" for id in kept}
    firsts, counts = [first for first, _ in found["segments"]], [count for _, count in found["segments"]]
    assert firsts == [sum(counts[:i]) for i in range(len(counts))]
    assert len(counts) > 1 and all(4096 <= count < 4100 for count in counts[:-1])


@pytest.mark.slow
def test_many_operations_by_two_tabs_with_reopening_and_a_clock_that_goes_back(
    browser: Browser, served: Served
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(2_000_000)
    page.goto(served.address + "empty.html")
    page.evaluate("""() => {
        let now = 2e12;
        Date.now = () => (now -= 60_000);
    }""")
    done = page.evaluate("async (count) => (await import('/store_walk.js')).walk('walk', 5, count)", OPERATIONS)
    assert isinstance(done, dict), done
    assert len(done) == 8 and min(done.values()) > OPERATIONS // 400 and sum(done.values()) == OPERATIONS
    context.close()


# --- the whole page ----------------------------------------------------------------------------------------------


def ids(page: Page, query: str | None, **options: Any) -> list[str]:
    found: list[str] = page.evaluate(
        "async ([query, options]) => (await notes.search(query, options)).map(({ id }) => id)", [query, options]
    )
    return found


@pytest.fixture(scope="module")
def second(opened: Page) -> Iterator[Page]:
    """Another tab of the same browser, with a worker of its own."""
    page = opened.context.new_page()
    page.set_default_timeout(120_000)
    page.goto(opened.url)
    page.evaluate(OPEN)
    yield page
    page.close()


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
    second.wait_for_function("async () => (await notes.stats()).damaged.length === 0")
    assert second.evaluate("async () => (await notes.stats()).missing") == 0


def test_another_tab_sees_changes_within_a_second(opened: Page, second: Page, name: str) -> None:
    opened.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES[:2]])
    second.evaluate(MAKE, [name, {"fields": FIELDS}, None])
    assert sorted(ids(second, "car")) == ["car", "cat"]
    opened.evaluate("(all) => notes.put(all)", NOTES[2:])
    second.wait_for_function("async () => (await notes.search('car')).length === 4", timeout=1000)
    second.evaluate("notes.delete(['car'])")
    opened.wait_for_function("async () => (await notes.search('car')).length === 3", timeout=1000)
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


def test_it_is_a_dictionary_that_is_searched(opened: Page, second: Page, name: str) -> None:
    chance = random.Random(7)
    model: dict[str, str] = {}
    for page in (opened, second):
        page.evaluate(MAKE, [name, {"fields": FIELDS}, None])
    for _ in range(40):
        page = chance.choice((opened, second))
        names = [str(chance.randrange(12)) for _ in range(chance.randrange(1, 5))]
        if chance.random() < 0.6:
            new = {id: f"{chance.choice(['cat', 'car', 'tax'])} {chance.randrange(3)}" for id in names}
            page.evaluate(
                "(all) => notes.put(all)",
                [{"id": id, "text": text, "fields": {"tag": text[:3]}} for id, text in new.items()],
            )
            model |= new
        else:
            assert page.evaluate("(ids) => notes.delete(ids)", names) == len(model.keys() & set(names))
            for id in names:
                model.pop(id, None)
        page = chance.choice((opened, second))
        page.wait_for_function("async (n) => (await notes.stats()).documents === n", arg=len(model), timeout=1500)
        found = page.evaluate("notes.search('cat', {k: 50})")
        assert {hit["id"]: hit["text"] for hit in found} == model
        tagged = ids(page, None, k=50, where={"tag": "car"})
        assert sorted(tagged) == sorted(id for id, text in model.items() if text.startswith("car"))
