"""Opening, failing, dying, closing: every call ends, with a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from page.conftest import Serve, Visited, answers, caught, opened_on

OPENING = "(await import('/insitu/insitu.js')).open()"


def test_an_isolated_page_has_the_threads_that_it_asks_for(visited: Visited) -> None:
    page = visited.page
    stats = opened_on(page, visited.served, threads=2)
    assert stats["isolated"] and stats["threads"] == min(2, page.evaluate("navigator.hardwareConcurrency"))
    assert stats["verified"]
    assert answers(page)


def test_an_isolated_page_takes_half_the_processors(opened: Page) -> None:
    stats = opened.evaluate("insitu.stats()")
    half = -(-opened.evaluate("navigator.hardwareConcurrency") // 2)
    assert stats["isolated"] and stats["threads"] == min(4, half)
    assert stats["verified"]
    assert {"pyodide", "insitu", "engine", "model", "session", "index"} <= set(stats["steps"])


def test_the_faster_kernel_is_taken_where_the_browser_can_run_it(opened: Page) -> None:
    runs = "async () => WebAssembly.validate(await (await fetch('/insitu/scan.relaxed.wasm')).arrayBuffer())"
    assert opened.evaluate("insitu.stats()")["kernel"] == ("relaxed" if opened.evaluate(runs) else "plain")


def test_parts_load_side_by_side_and_tell_how_far_they_are(opened: Page) -> None:
    opened.evaluate(
        "async () => { while ((await insitu.stats()).pending) await new Promise((done) => setTimeout(done, 50)); }"
    )
    last = {loading["part"]: loading for loading in opened.evaluate("loading")}
    assert set(last) == {"python", "engine", "model", "index", "texts"}
    assert all(part["loaded"] == part["total"] > 0 for part in last.values())
    steps = opened.evaluate("insitu.stats()")["steps"]
    python_done = steps["pyodide"]["start"] + steps["pyodide"]["took"]
    assert steps["engine"]["start"] < python_done and steps["model"]["start"] < python_done


def test_a_page_that_is_not_isolated_works_on_one_thread(page: Page, serve_site: Serve) -> None:
    stats = opened_on(page, serve_site(isolated=False))
    assert (stats["isolated"], stats["threads"]) == (False, 1)
    assert answers(page)


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("worker.js", "runtime-unavailable"),
        ("assets.json", "fetch-failed"),
        ("pyodide/pyodide.asm.wasm", "runtime-unavailable"),
        ("pyodide/python.zip", "runtime-unavailable"),
        ("index.json", "index-not-found"),
    ],
)
def test_a_missing_file_is_a_named_error(faulty: Page, serve_site: Serve, missing: str, code: str) -> None:
    faulty.goto(serve_site(missing={"/insitu/" + missing}).address + "empty.html")
    found = caught(faulty, OPENING)
    assert found[1] == code, found


def test_a_missing_runtime_is_a_named_error(faulty: Page, serve_site: Serve) -> None:
    faulty.goto(serve_site(missing={"/insitu/ort/ort-wasm-simd-threaded.wasm"}).address + "empty.html")
    found = caught(faulty, "(await import('/insitu/insitu.js')).open({ engine: 'onnxruntime' })")
    assert found[1] == "runtime-unavailable", found


def test_a_worker_that_never_speaks_is_given_up(faulty: Page, serve_site: Serve) -> None:
    faulty.goto(serve_site(instead={"/insitu/worker.js": b"for (;;) {}"}).address + "empty.html")
    found = caught(faulty, "(await import('/insitu/insitu.js')).open({ startTimeout: 700 })")
    assert found[1] == "runtime-unavailable" and "0.7 s" in found[2]


def test_opening_can_be_aborted(faulty: Page, serve_site: Serve) -> None:
    faulty.goto(serve_site().address + "empty.html")
    found = caught(faulty, "(await import('/insitu/insitu.js')).open({ signal: AbortSignal.timeout(150) })")
    assert found[:2] == ("AbortError", "aborted")


def test_every_call_ends_when_the_worker_dies(faulty: Page, serve_site: Serve) -> None:
    faulty.add_init_script(
        "const W = Worker; window.Worker = "
        "class extends W { constructor(...a) { super(...a); window.worker = this; } };"
    )
    opened_on(faulty, serve_site())
    found = faulty.evaluate(
        """async () => {
            const calls = [insitu.embed(Array(400).fill('word '.repeat(200))), insitu.search('cats'), insitu.stats()];
            worker.terminate();
            const codes = (await Promise.allSettled(calls)).map((call) => call.reason?.code);
            return [...codes, (await insitu.search('cats').catch((error) => error)).code];
        }"""
    )
    assert found == ["worker-died"] * 4


def test_close_ends_the_calls_under_way_and_all_later_ones(visited: Visited) -> None:
    page = visited.page
    opened_on(page, visited.served)
    act = "(() => { const call = insitu.embed(Array(400).fill('word '.repeat(200))); insitu.close(); return call; })()"
    assert caught(page, act)[1] == "closed"
    assert caught(page, "insitu.search('cats')")[1] == "closed"


def entry(site: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site / "insitu/index.json").read_text())
    return found


@pytest.mark.parametrize("kind", ["vectors", "pages"])
def test_a_tampered_shard_is_refused(faulty: Page, serve_site: Serve, site: Path, kind: str) -> None:
    manifest = entry(site)
    ref = manifest["pages"] if kind == "pages" else manifest["shards"][0]["vectors"]
    data = bytearray((site / "insitu" / ref["file"]).read_bytes())
    data[5] ^= 1
    faulty.goto(serve_site(instead={"/insitu/" + ref["file"]: bytes(data)}).address + "empty.html")
    found = caught(faulty, OPENING)
    assert found[1] == "index-corrupt" and ref["file"] in found[2]


def test_a_cut_file_is_refused_whatever_it_is(faulty: Page, serve_site: Serve, site: Path, model_url: str) -> None:
    path = model_url.replace("model.lock.json", "rows.int8.bin")
    cut = (site / path.lstrip("/")).read_bytes()[:-100]
    faulty.goto(serve_site(instead={path: cut}).address + "empty.html")
    assert caught(faulty, OPENING)[1] == "model-corrupt"


def test_a_tampered_text_is_refused_when_it_is_needed(faulty: Page, serve_site: Serve, site: Path) -> None:
    ref = entry(site)["texts"][0]
    path = "/insitu/" + ref["file"]
    data = (site / path.lstrip("/")).read_bytes().replace(b"cat", b"dog")
    opened_on(faulty, serve_site(instead={path: data}))
    assert caught(faulty, "insitu.search('cats')")[1] == "index-corrupt"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 99}, "index-version"),
        ({"format": "another"}, "index-corrupt"),
        ({"space": "another:int8:128:0:0"}, "space-mismatch"),
        ({"count": 1}, "index-corrupt"),
        (None, "index-corrupt"),
    ],
)
def test_another_index_is_refused_by_its_name(visited: Visited, site: Path, change: Any, code: str) -> None:
    visited.served.instead["/insitu/index.json"] = (
        b'{"cut": ' if change is None else json.dumps(entry(site) | change).encode()
    )
    visited.page.goto(visited.served.address + "empty.html")
    found = caught(visited.page, OPENING)
    assert found[1] == code, found
