"""The start: what is kept, what a broken cache does to it, the interpreter's snapshot, its trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from conftest import ROOT, VERSION
from page.conftest import ASKED, OPEN, Serve, Visited, answers, opened_on, settled

# --- what is kept --------------------------------------------------------------------------------------------------

# Keys of the cache of files, as hash/piece.
KEYS = """async () => {
    const keys = await (await caches.open('insitu-files')).keys();
    return keys.map(({ url }) => decodeURIComponent(new URL(url).pathname.slice('/insitu-files/'.length)));
}"""


def test_a_second_visit_takes_its_files_from_the_cache(visited: Visited) -> None:
    page, served, first = visited.page, visited.served, visited.first
    assert first["cache"] == {"works": True, "reason": "", "hits": 0, "misses": first["cache"]["misses"]}
    second = opened_on(page, served)
    settled(page)
    assert second["cache"]["hits"] >= 6 and second["cache"]["misses"] == 0
    kept = [path for path in served.asked if path.endswith((".bin", ".onnx")) or "/index/" in path]
    assert kept == []


def test_files_that_nobody_names_any_more_are_dropped(page: Page, serve_site: Serve, start_parts: bytes) -> None:
    served = serve_site(instead={"/start_parts.js": start_parts})
    page.goto(served.address + "empty.html")
    page.evaluate(
        """async (name) => {
            const cache = await caches.open('insitu-files');
            const { checksum } = await import('/start_parts.js');
            const put = (key, body) => cache.put(
                new URL('/insitu-files/' + key, location),
                new Response(body, { headers: { 'x-insitu-sum': checksum(new TextEncoder().encode(body)) } }),
            );
            await put('stale/0', 'x');
            await put('shared/0', 'x');
            await put('forgotten/0', 'x');
            await put('claims/another', JSON.stringify({ at: Date.now(), files: ['shared'] }));
            await put('claims/old', JSON.stringify({ at: Date.now() - 91 * 24 * 3600e3, files: ['forgotten'] }));
            await new Promise((done) => { indexedDB.open(name).onsuccess = ({ target }) => done(target.result.close()); });
        }""",
        f"insitu {served.address}insitu/index.json",
    )
    opened_on(page, served)
    settled(page)
    keys = set(page.evaluate(KEYS))
    assert "shared/0" in keys and not keys & {"stale/0", "forgotten/0", "claims/old"}
    assert f"claims/{served.address}insitu/index.json" in keys and len(keys) >= 9
    # Where the first release kept its files.
    assert page.evaluate("indexedDB.databases()") == []


def test_a_damaged_cache_heals_itself(visited: Visited, site: Path, model_url: str) -> None:
    page, served = visited.page, visited.served
    graph = json.loads((site / model_url.lstrip("/")).read_text())["graph"]
    damage = """async (key) => {
        const cache = await caches.open('insitu-files');
        const url = new URL('/insitu-files/' + key, location);
        const found = await cache.match(url);
        const bytes = new Uint8Array(await found.arrayBuffer());
        bytes[1000] ^= 1;
        await cache.put(url, new Response(bytes, { headers: found.headers }));
    }"""
    page.evaluate(damage, f"{graph['sha256']}/1")
    assert opened_on(page, served)["cache"]["misses"] == 1
    assert answers(page)
    settled(page)
    assert [path for path in served.asked if path.endswith(".onnx")] == [
        model_url.replace("model.lock.json", graph["file"])
    ]
    assert opened_on(page, served)["cache"]["misses"] == 0


def test_without_cache_storage_the_page_goes_on_and_says_why(page: Page, serve_site: Serve) -> None:
    broken = b"Object.defineProperty(self, 'caches', { get() { throw new DOMException('denied', 'SecurityError'); } });"
    stats = opened_on(page, serve_site(script=broken))
    assert not stats["cache"]["works"] and "denied" in stats["cache"]["reason"]
    assert answers(page)


def test_an_insecure_page_goes_on_and_says_why(browser: Browser, chromium_path: str, serve_site: Serve) -> None:
    served = serve_site()
    address = served.address.replace("127.0.0.1", "insecure.test")
    # A name that leads to this machine and is no secure context.
    args = ["--no-sandbox", "--host-resolver-rules=MAP insecure.test 127.0.0.1"]
    other = browser.browser_type.launch(executable_path=chromium_path, args=args)
    page = other.new_page()
    page.set_default_timeout(120_000)
    page.goto(address + "empty.html")
    assert not page.evaluate("isSecureContext")
    page.evaluate(OPEN)
    stats = page.evaluate("insitu.stats()")
    assert not stats["cache"]["works"] and "https" in stats["cache"]["reason"] and not stats["verified"]
    assert answers(page)
    other.close()


def test_on_a_full_disk_the_page_goes_on_and_says_why(page: Page, serve_site: Serve) -> None:
    served = serve_site()
    page.goto(served.address + "empty.html")
    tools = page.context.new_cdp_session(page)
    tools.send("Storage.overrideQuotaForOrigin", {"origin": served.address.rstrip("/"), "quotaSize": 100_000})
    page.evaluate(OPEN)
    settled(page)
    stats = page.evaluate("insitu.stats()")
    assert not stats["cache"]["works"] and "Quota" in stats["cache"]["reason"]
    assert answers(page)


# --- the interpreter's snapshot ------------------------------------------------------------------------------------

# Replaces the stored snapshot by what `change` makes of its bytes; `sum`: with a sum that fits, so it seems to be whole.
CHANGE = """async ([change, sum]) => {
    const { checksum } = await import('/start_parts.js');
    const cache = await caches.open('insitu-python');
    const [key] = await cache.keys();
    const found = await cache.match(key);
    const bytes = eval(change)(new Uint8Array(await found.arrayBuffer()));
    const headers = { 'x-insitu-sum': sum ? checksum(bytes) : found.headers.get('x-insitu-sum') };
    await cache.put(key, new Response(bytes, { headers }));
}"""
SNAPSHOTS = "async () => (await (await caches.open('insitu-python')).keys()).map(({ url }) => url)"


def test_the_second_visit_starts_from_a_snapshot_that_the_first_one_made(visited: Visited) -> None:
    page = visited.page
    assert visited.first["snapshot"] == {"state": "none", "reason": ""}
    assert visited.settled["snapshot"] == {"state": "made", "reason": ""}
    assert len(page.evaluate(SNAPSHOTS)) == 1
    second = opened_on(page, visited.served)
    assert second["snapshot"] == {"state": "used", "reason": ""}
    assert page.evaluate(ASKED) == visited.answer
    # All that Python does in the page still works: an error, progress, an abort between two batches.
    assert page.evaluate("insitu.search('').catch((error) => error.code)") == "empty-query"
    run = """async () => {
        const stop = new AbortController();
        const onProgress = () => stop.abort();
        return insitu.embed(Array(40).fill('word '.repeat(200)), { signal: stop.signal, onProgress }).catch((e) => e.code);
    }"""
    assert page.evaluate(run) == "aborted"
    assert answers(page)


@pytest.mark.parametrize(
    ("change", "seems_whole", "reason"),
    [
        ("(bytes) => { bytes[bytes.length >> 1] ^= 1; return bytes; }", False, None),
        ("(bytes) => bytes.slice(0, -1000)", False, None),
        ("(bytes) => bytes.slice(0, -1000)", True, "cut"),
        ("() => new Uint8Array(16)", True, ""),
        # Of another build of Pyodide: its header comes behind the list of pages.
        (
            "(bytes) => { bytes[4 * (4 + 2 * new Uint32Array(bytes.buffer, 12, 1)[0]) + 20] ^= 1; return bytes; }",
            True,
            "build id",
        ),
    ],
)
def test_a_snapshot_that_is_no_good_is_dropped_in_silence(
    visited: Visited, start_parts: bytes, change: str, seems_whole: bool, reason: str | None
) -> None:
    page, served = visited.page, visited.served
    served.instead["/start_parts.js"] = start_parts
    page.evaluate(CHANGE, [change, seems_whole])
    stats = opened_on(page, served)
    assert stats["snapshot"]["state"] == ("none" if reason is None else "refused")
    assert (reason or "") in stats["snapshot"]["reason"]
    assert answers(page)
    settled(page)
    assert opened_on(page, served)["snapshot"]["state"] == "used"


def test_of_a_snapshot_only_pages_that_are_not_empty_are_written(opened: Page, start_parts: bytes) -> None:
    """As Pyodide restores one: by its length, its head, and a copy of all that follows."""
    opened.context.route(
        "**/snapshot.js", lambda route: route.fulfill(body=start_parts, content_type="text/javascript")
    )
    found = opened.evaluate(
        """async () => {
            const { pack, unpack } = await import('/snapshot.js');
            const [head, page] = [112, 4096];
            const snapshot = new Uint8Array(head + 16 * page);
            new Uint32Array(snapshot.buffer, 0, 2).set([0x706e7300, head]);
            for (const full of [0, 5, 6, 15]) snapshot[head + full * page + 7 * full] = full + 1;
            const memory = new Int8Array(16 * page).fill(99);
            const given = unpack(pack(snapshot), () => memory);
            const before = memory.every((byte) => byte === 99);
            const start = given.subarray(0, 8).join();
            memory.set(given.subarray(head));
            const pages = Array.from({length: 16}, (_, i) => memory.subarray(i * page, (i + 1) * page));
            const right = [0, 5, 6, 15].every((i) => pages[i].join() === snapshot.slice(head + i * page).slice(0, page).join());
            const left = pages.filter((bytes) => bytes.every((byte) => byte === 99)).length;
            return [given.length === snapshot.length, before, start === snapshot.subarray(0, 8).join(), right, left];
        }"""
    )
    assert found == [True, True, True, True, 12]


def test_the_checksum_tells_every_change_of_a_byte(opened: Page, start_parts: bytes) -> None:
    opened.context.route(
        "**/checksum.js", lambda route: route.fulfill(body=start_parts, content_type="text/javascript")
    )
    found = opened.evaluate(
        """async () => {
            const { checksum } = await import('/checksum.js');
            const bytes = crypto.getRandomValues(new Uint8Array(67));
            const right = checksum(bytes);
            let missed = Number(right === checksum(bytes.slice(0, -1))) + Number(right === checksum(bytes.slice(1)));
            for (let bit = 0; bit < 8 * bytes.length; bit++) {
                const changed = bytes.slice();
                changed[bit >> 3] ^= 1 << (bit & 7);
                missed += Number(right === checksum(changed));
            }
            const odd = new Uint8Array(71).subarray(3, 70);
            odd.set(bytes);
            return [missed, checksum(odd) === right, checksum(new Uint8Array()).length];
        }"""
    )
    assert found == [0, True, 32]


def test_a_snapshot_of_another_interpreter_is_not_taken(page: Page, serve_site: Serve, site: Path) -> None:
    served = serve_site()
    opened_on(page, served)
    settled(page)
    before = page.evaluate(SNAPSHOTS)
    assets = json.loads((site / "insitu/assets.json").read_text())
    served.instead["/insitu/assets.json"] = json.dumps(assets | {"python": "0" * 64}).encode()
    assert opened_on(page, served)["snapshot"]["state"] == "none"
    settled(page)
    after = page.evaluate(SNAPSHOTS)
    assert len(before) == len(after) == 1 and before != after


# --- the trace -----------------------------------------------------------------------------------------------------


def busiest(browser: Browser, page: Page, act: Callable[[], object]) -> float:
    """Milliseconds of processor time of the longest task of the page's main thread while `act` runs."""
    browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
    # The trace is of the whole browser: which thread is this page's, and not one of another that clears up?
    page.evaluate("performance.mark('the page of this test')")
    act()
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {(e["pid"], e["tid"]) for e in events if e["name"] == "the page of this test"}
    assert len(main) == 1
    # Processor time: on a busy machine a task also waits.
    tasks = [
        e["tdur"] / 1000 for e in events if "RunTask" in e["name"] and (e["pid"], e["tid"]) in main and "tdur" in e
    ]
    assert len(tasks) > 3
    return float(max(tasks))


def test_the_main_thread_is_never_busy_for_long_while_all_is_loading(
    browser: Browser, page: Page, serve_site: Serve
) -> None:
    served = serve_site()
    page.set_default_timeout(120_000)
    page.goto(served.address + "empty.html")

    def start() -> None:
        page.evaluate(OPEN)
        assert answers(page)
        settled(page)

    assert busiest(browser, page, start) < 50

    def again() -> float:
        page.goto(served.address + "empty.html")
        return busiest(browser, page, start)

    # Clearing up after the page before is the browser's own, and not at every visit.
    assert again() < 50 or again() < 50
    # The trace itself is tried: a task that is too long must show.
    spin = "() => { const end = performance.now() + 300; while (performance.now() < end); }"
    assert busiest(browser, page, lambda: [page.evaluate(spin), page.evaluate("insitu.stats()")]) > 50


def test_stats_trace_the_start_step_by_step(opened: Page) -> None:
    steps = opened.evaluate("insitu.stats()")["steps"]
    wanted = {
        "worker",
        "assets",
        "snapshot",
        "pyodide",
        "insitu",
        "engine",
        "graph",
        "rows",
        "tokenizer",
        "session",
        "index",
    }
    assert wanted <= set(steps)
    assert all(step["took"] >= 0 for step in steps.values())
    # From the start of the navigation on: the worker's own clock begins later than the page's.
    worker = steps["worker"]
    assert worker["start"] > 0 and all(step["start"] >= worker["start"] for step in steps.values())
    assert max(step["start"] + step["took"] for step in steps.values()) <= opened.evaluate("performance.now()")


# --- micropip ------------------------------------------------------------------------------------------------------


def test_micropip_installs_the_wheel_that_is_served(page: Page, serve_site: Serve, site: Path) -> None:
    """As a notebook does, with the whole Pyodide that it brings."""
    served = serve_site()
    for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"):
        served.instead[f"/notebook/{name}"] = (ROOT / "node_modules/pyodide" / name).read_bytes()
    wheels = {path.name.partition("-")[0]: path.name for path in (site / "insitu/wheels").iterdir()}
    page.set_default_timeout(120_000)
    page.goto(served.address + "empty.html")
    version = page.evaluate(
        """async (wheels) => {
            const { loadPyodide } = await import('/notebook/pyodide.mjs');
            const at = (name) => new URL('/insitu/wheels/' + name, location).href;
            const py = await loadPyodide({ indexURL: '/notebook/', packageBaseUrl: '/notebook/' });
            await py.loadPackage(at(wheels.micropip), { checkIntegrity: false, messageCallback: () => undefined });
            py.globals.set('wheel', at(wheels.insitu));
            await py.runPythonAsync('import micropip; await micropip.install(wheel)');
            return py.runPython('import insitu; from insitu.runtime.web import WebRuntime; insitu.__version__');
        }""",
        wheels,
    )
    assert version == VERSION
