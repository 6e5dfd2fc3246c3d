"""The store of the page must lose nothing: tabs that are killed at any moment, a full disk, compaction."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from page.conftest import bundle
from page.folder import Served
from page.killing import Stamps, blank, kill_pages, log

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
    bundle("store_parts.ts", site / "store_parts.js")
    with Served(site).running() as served:
        yield served


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


def test_a_tab_killed_at_any_moment_loses_nothing_that_was_acknowledged(disk: Browser, served: Served) -> None:
    chance = random.Random(4)
    stamps: Stamps = {}
    acts = ["put", "put delete", "put fold put compact", "import", "put put delete fold compact import", "put reembed"]
    for seed in range(50):
        act = acts[seed % len(acts)]
        page = blank(disk, served)
        done: list[str] = []
        page.on("console", partial(log, done))
        with page.expect_event("crash", timeout=30_000):
            with page.expect_console_message(timeout=30_000):
                page.evaluate(WRITE, [act, seed])
            page.wait_for_timeout(chance.uniform(0, 150))
            kill_pages(disk)
        page.close()
        assert set(done) == {"done"}
        page = blank(disk, served)
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
        page = blank(disk, fresh)
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
    page = blank(disk, served)
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
