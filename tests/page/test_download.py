"""One file over a bad network: it goes on where it was cut, is never mixed, and is shared by tabs."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from page.folder import Fault, Served, both, cut_at, without_ranges

MB = 1 << 20
PIECE = 4 * MB  # as in web/src/files.ts
FILE = "/file"
ServeFile = Callable[..., Served]


@pytest.fixture
def serve_file(start_parts: bytes, tmp_path: Path) -> Iterator[ServeFile]:
    """serve_file(body, **faults) -> Served, for the length of one test."""
    with ExitStack() as stack:

        def serve(body: bytes, **faults: Any) -> Served:
            instead = {"/parts.js": start_parts, FILE: body}
            return stack.enter_context(Served(tmp_path, instead=instead, watched=FILE, **faults).running())

        yield serve


def then(body: bytes) -> Fault:
    """From the second request on the file is another one."""
    asked = 0

    def act(handler: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            handler.site.instead[FILE] = body

    return act


def body(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def ref(data: bytes) -> dict[str, Any]:
    return {"file": "file", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# Loads the file; gives the SHA-256 of what came and the most bytes that progress told, or the code of the error.
LOAD = """async ([ref, options]) => {
    const { load, Store } = await import('/parts.js');
    window.store = await Store.open('insitu-files');
    let told = 0;
    const onBytes = (count) => { window.told = told += count; };
    try {
        const bytes = await load(ref, location.href, 'model-corrupt', store, {...options, onBytes});
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        return [Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join(''), told];
    } catch (error) { return [error.code ?? String(error), told]; }
}"""


def loaded(page: Page, served: Served, wanted: dict[str, Any]) -> list[Any]:
    page.goto(served.address + "empty.html")
    result: list[Any] = page.evaluate(LOAD, [wanted, {}])
    return result


def test_a_download_cut_at_twenty_random_bytes_goes_on_where_it_was(faulty: Page, serve_file: ServeFile) -> None:
    data = body(9 * MB + 12345)
    cuts = sorted(random.Random(7).sample(range(1, len(data)), 20))
    served = serve_file(data, fault=cut_at(*cuts))
    assert loaded(faulty, served, ref(data)) == [ref(data)["sha256"], len(data)]
    # Each request asks for what the cut before it had left out, and for nothing twice.
    starts = [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in served.parts]
    assert len(starts) == 21 and starts[0] == 0
    assert all(start <= cut for start, cut in zip(starts[1:], cuts, strict=True))
    lost = sum(cut - start for start, cut in zip(starts[1:], cuts, strict=True))
    # What the browser had not handed over yet is lost with the connection; beginning again would lose ten times the file.
    assert lost < len(data), "what had arrived was asked for again"


def test_without_ranges_the_download_begins_again(faulty: Page, serve_file: ServeFile) -> None:
    data = body(3 * MB)
    served = serve_file(data, fault=both(without_ranges, cut_at(MB, 2 * MB)))
    assert loaded(faulty, served, ref(data)) == [ref(data)["sha256"], len(data)]
    assert len(served.parts) == 3


def test_a_network_that_stays_broken_is_a_named_error(faulty: Page, serve_file: ServeFile) -> None:
    data = body(MB)
    served = serve_file(data, fault=cut_at(*[0] * 20))
    assert loaded(faulty, served, ref(data)) == ["fetch-failed", 0]
    assert len(served.parts) <= 10


def test_a_file_that_changes_in_the_middle_is_never_mixed(faulty: Page, serve_file: ServeFile) -> None:
    old, new = body(6 * MB, 1), body(6 * MB, 2)
    served = serve_file(old, fault=both(then(new), cut_at(5 * MB)))
    assert loaded(faulty, served, ref(new)) == [ref(new)["sha256"], len(new)]
    # The server itself says that the halves would not belong together: no third request is needed.
    assert len(served.parts) == 2 and served.parts[1].startswith("bytes=")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data[1:]])
def test_another_file_is_refused_after_a_second_download(
    faulty: Page, serve_file: ServeFile, change: Callable[[bytes], bytes]
) -> None:
    data = body(5 * MB)
    served = serve_file(change(data))
    assert loaded(faulty, served, ref(data)) == ["model-corrupt", 0]
    assert len(served.parts) == 2


def test_the_next_visit_goes_on_where_the_last_one_ended(faulty: Page, serve_file: ServeFile) -> None:
    data = body(10 * MB)
    served = serve_file(data, fault=cut_at(9 * MB, *[0] * 20))
    assert loaded(faulty, served, ref(data))[0] == "fetch-failed"
    page = faulty.context.new_page()
    faulty.close()
    served.parts.clear()
    served.fault = None
    assert loaded(page, served, ref(data)) == [ref(data)["sha256"], len(data)]
    assert served.parts == [f"bytes={2 * PIECE}-"]
    served.parts.clear()
    page = page.context.new_page()
    assert loaded(page, served, ref(data)) == [ref(data)["sha256"], len(data)]
    assert served.parts == []


def test_two_tabs_share_one_download(faulty: Page, serve_file: ServeFile) -> None:
    data = body(10 * MB)
    served = serve_file(data, pace=0.02)
    tabs = [faulty, faulty.context.new_page()]
    for tab in tabs:
        tab.goto(served.address + "empty.html")
        tab.evaluate("([run, ref]) => { window.found = eval(run)([ref, {}]); }", [LOAD, ref(data)])
    for tab in tabs:
        assert tab.evaluate("found") == [ref(data)["sha256"], len(data)]
    assert served.parts == [""]


def test_a_tab_that_closes_leaves_its_download_to_the_next(faulty: Page, serve_file: ServeFile) -> None:
    data = body(12 * MB)
    served = serve_file(data, pace=0.1)
    tabs = [faulty, faulty.context.new_page()]
    for tab in tabs:
        tab.goto(served.address + "empty.html")
        tab.evaluate("([run, ref]) => { window.found = eval(run)([ref, {}]); }", [LOAD, ref(data)])
    tabs[0].wait_for_function(f"window.told > {PIECE + MB}")
    tabs[0].close()
    served.pace = 0
    assert tabs[1].evaluate("found") == [ref(data)["sha256"], len(data)]
    assert len(served.parts) == 2
    assert served.parts[1].startswith("bytes=") and int(served.parts[1][6:-1]) >= PIECE


def test_an_abort_ends_the_download(faulty: Page, serve_file: ServeFile) -> None:
    data = body(12 * MB)
    served = serve_file(data, pace=0.1)
    page = faulty
    page.goto(served.address + "empty.html")
    run = "([run, ref]) => eval(run)([ref, {signal: AbortSignal.timeout(700)}])"
    assert page.evaluate(run, [LOAD, ref(data)])[0] == "aborted"
    page.wait_for_timeout(1000)
    assert served.gone == 1 and len(served.parts) == 1
