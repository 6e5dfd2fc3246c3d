"""Token rows on demand: the same rows from parts of the table as from all of it, whatever the server and the disk do."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from insitu.model.rows import read_rows, write_rows
from page.ranges import HURRY, QUIET, Ranged, cut_after, instead, refuse, wait_for, without_ranges

RECORD = 388  # bytes: 384 codes and a scale
BLOCK = 64 * RECORD
SMALL, BIG, HUGE = 30_522, 60_000, 400_000  # rows: 12, 23 and 155 MB
SIZE = BIG * RECORD
IDS = [101, 7632, 1037, 15_000, 15_001, 30_521, 2, 22_222, 102]
# Before all else in the worker: no private file system.
NO_DISK = b"StorageManager.prototype.getDirectory = undefined;"

# A worker of a page, as the page's own: `act(args)` runs in it, `parts` holds the modules, `self.rows` the open table.
WORKER = """async ([before, act, args]) => {
    window.tab ??= new Worker(URL.createObjectURL(new Blob([`${before};
        onmessage = async ({ data: [act, args, base] }) => {
            self.base = base;
            self.parts ??= await import(base + 'parts.js');
            try { postMessage([await (0, eval)(act)(args)]); }
            catch (error) { postMessage([undefined, [error.code ?? error.name, error.message]]); }
        }`])));
    return new Promise((resolve) => {
        tab.onmessage = ({ data }) => resolve(data);
        tab.postMessage([act, args, location.origin + '/']);
    });
}"""
OPEN = """async ([model, mode, usual]) => {
    const base = self.base + model;
    const table = await (await fetch(base)).json();
    const store = await parts.Store.open('test');
    const options = { table, base, mode: mode ?? undefined, usual, owner: 'test', store, expect: () => {}, onBytes: () => {} };
    self.rows = await parts.openRows(options);
    return rows.stats;
}"""
# The records of the ids, one after another, by their SHA-256; the stats of the table then.
LOAD = """async (ids) => {
    const found = await rows.load(Int32Array.from(ids));
    const records = ids.map((id) => {
        const at = (id % rows.perPart) * rows.record;
        return found.get(Math.floor(id / rows.perPart)).subarray(at, at + rows.record);
    });
    const digest = await crypto.subtle.digest('SHA-256', await new Blob(records).arrayBuffer());
    return [[...new Uint8Array(digest)], rows.stats];
}"""
FILE = """const file = async () => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('insitu-rows');
    for await (const owner of folder.values()) for await (const found of owner.values()) return found;
};
"""


class RowError(Exception):
    """What JS threw: a code (or a name) and a message."""


class Tab:
    """A page of `served` with the module of token rows in a worker."""

    def __init__(self, page: Page, served: Ranged, before: bytes = QUIET) -> None:
        self.page, self.served, self.before = page, served, before.decode()
        page.goto(served.address + "empty.html")

    def run(self, act: str, args: Any = None) -> Any:
        value, *error = self.page.evaluate(WORKER, [self.before, act, args])
        if error:
            raise RowError(*error[0])
        return value

    def open(self, model: str, mode: str | None, usual: str = "all") -> dict[str, Any]:
        stats: dict[str, Any] = self.run(OPEN, [model, mode, usual])
        return stats

    def load(self, ids: Sequence[int]) -> dict[str, Any]:
        """Checks that the rows of `ids` are right; the stats afterwards."""
        digest, stats = self.run(LOAD, list(ids))
        assert bytes(digest) == right(self.served.folder, ids)
        return dict(stats)

    def stats(self) -> dict[str, Any]:
        return dict(self.run("() => rows.stats"))

    def error(self, act: Callable[[], Any]) -> tuple[str, str]:
        with pytest.raises(RowError) as raised:
            act()
        code, message = raised.value.args
        return code, message


def right(folder: Path, ids: Sequence[int]) -> bytes:
    table = np.fromfile(folder / "big/rows.int8.bin", np.uint8).reshape(-1, RECORD)
    return hashlib.sha256(table[list(ids)].tobytes()).digest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, site: Path, model_dir: Path, runtime: Any) -> Path:
    """Tables: `small` is the model's, `big` begins like it and is too large for memory, `huge` is a lock without files."""
    folder = tmp_path_factory.mktemp("tables")
    shutil.copy(site / "parts.js", folder)
    lock = runtime.lock
    codes, scales = read_rows(model_dir / lock.rows.file, lock)
    for name, count in (("small", SMALL), ("big", BIG)):
        (folder / name).mkdir()
        table = np.resize(codes, (count, lock.full_dim)), np.resize(scales, count)
        _, rows, blocks = write_rows(folder / name, "int8", [table])
        changed = dataclasses.replace(lock, rows=rows, row_count=count, row_blocks=blocks)
        (folder / name / "lock.json").write_text(changed.to_json(), "utf-8")
    shutil.copytree(folder / "small", folder / "huge", ignore=shutil.ignore_patterns("rows.*"))
    rows = dataclasses.replace(lock.rows, bytes=HUGE * RECORD)
    (folder / "huge/lock.json").write_text(dataclasses.replace(lock, rows=rows, row_count=HUGE).to_json(), "utf-8")
    return folder


@pytest.fixture
def serve_tables(folder: Path) -> Iterator[Callable[..., Ranged]]:
    """serve_tables(**faults) -> Ranged, for the length of one test."""
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(Ranged(folder, **faults).running())


@pytest.fixture
def served(serve_tables: Callable[..., Ranged]) -> Ranged:
    return serve_tables()


@pytest.fixture
def loose(browser: Browser) -> Iterator[Page]:
    """A page that may write to its console, in a fresh profile: an answer that breaks off does."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def until(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not come about within half a minute")


# What is asked of a server.


def test_rows_are_those_of_the_whole_table(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    assert tab.open("small/lock.json", "stream")["mode"] == "stream"
    assert served.asked == []
    stats = tab.load(IDS)
    assert None not in served.asked and all(first % BLOCK == 0 for first, _ in served.ranges())
    assert stats["requests"] == len(served.asked)
    assert stats["bytes"] == served.sent == sum(last + 1 - first for first, last in served.ranges())
    assert served.sent == 6 * BLOCK + 58 * RECORD  # the last block is shorter


def test_blocks_beside_each_other_come_in_one_request(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    tab.load([64 * block for block in (9, 7, 5, 4)])  # 6 and 8 are bridged, and kept
    assert served.ranges() == [(4 * BLOCK, 10 * BLOCK - 1)]
    tab.load([64 * block for block in (6, 8, 12)])
    assert served.ranges()[1:] == [(12 * BLOCK, 13 * BLOCK - 1)]


def test_a_few_requests_run_at_once_and_not_more(page: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables(fault=lambda handler: threading.Event().wait(0.1) and None)
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    tab.load(range(0, 30_000, 640))
    assert len(served.asked) == 47 and served.most_at_once == 4


def test_callers_at_the_same_time_share_one_fetch(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    sizes = "async (ids) => (await Promise.all(ids.map((ids) => rows.load(Int32Array.from(ids))))).map((m) => m.size)"
    assert tab.run(sizes, [[1, 2000], [2000, 1], [1, 20_000]]) == [2, 2, 2]
    assert sorted(served.ranges()) == [(b * BLOCK, (b + 1) * BLOCK - 1) for b in (0, 31, 312)]


def test_a_second_visit_asks_for_no_row_again(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    assert tab.open("small/lock.json", "stream")["place"] == "disk"
    tab.load(IDS)
    served.asked.clear()
    again = Tab(page, served)
    again.open("small/lock.json", "stream")
    assert again.load(IDS)["requests"] == 0 and served.asked == []


def test_frequent_rows_come_ahead_in_idle_time(page: Page, served: Ranged) -> None:
    tab = Tab(page, served, b"")
    tab.open("big/lock.json", "stream")
    tab.run("() => void rows.fetchAhead(Int32Array.of(59999))")
    until(page, lambda: tab.stats()["bytes"] > 7.9e6)
    assert served.sent < 8.03e6 and served.most_at_once == 1
    assert served.ranges()[0][0] == 59_968 * RECORD, "what was named comes first"
    assert all(last + 1 - first < 1.1e6 for first, last in served.ranges())
    asked = len(served.asked)
    tab.load([*range(0, 20_000, 37), 59_999])
    assert len(served.asked) == asked


def test_nothing_comes_ahead_where_data_are_saved(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tab.open("big/lock.json", "stream")
    tab.run("() => rows.fetchAhead(Int32Array.of(1))")
    assert served.asked == []


@pytest.mark.parametrize("mode", ["all", "stream"])
@pytest.mark.parametrize("model", ["small", "big"])
def test_ids_beyond_the_table_are_a_named_error(page: Page, served: Ranged, model: str, mode: str) -> None:
    tab = Tab(page, served)
    tab.open(f"{model}/lock.json", mode)
    for ids in ([5, {"small": SMALL, "big": BIG}[model]], [-1]):
        code, message = tab.error(lambda ids=ids: tab.load(ids))  # type: ignore[misc]
        assert code == "model-corrupt" and str(ids[-1]) in message


# A server, or a network, that does not do what it should.


def test_a_server_without_ranges_sends_the_file_once(page: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables(fault=without_ranges)
    tab = Tab(page, served)
    tab.open("big/lock.json", "stream")
    tab.load([15_000, 30_521])
    until(page, lambda: tab.stats()["bytes"] >= SIZE)
    assert not tab.stats()["ranges"]
    asked = len(served.asked)
    tab.load(range(0, BIG, 501))
    assert len(served.asked) == asked
    assert tab.stats()["held"] < 16e6


def test_a_server_without_ranges_and_no_room_is_a_named_error(page: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables(fault=without_ranges)
    tab = Tab(page, served, NO_DISK)
    assert tab.open("big/lock.json", "stream")["place"] == "memory"
    code, message = tab.error(lambda: tab.load(IDS))
    assert code == "range-unsupported" and "23 MB" in message


def test_a_changed_file_gives_an_error_and_never_a_row(page: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables()
    body = bytearray((served.folder / "small/rows.int8.bin").read_bytes())
    for block in range(0, len(body), BLOCK):
        body[block + 7] ^= 1
    served.fault = instead(bytes(body))
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load(IDS))
    assert code == "model-corrupt" and "rows.int8.bin" in message
    served.fault = None  # the right file is back
    tab.load(IDS)


@pytest.mark.parametrize("length", [100, 20_000 * RECORD, SMALL * RECORD + 4])
def test_a_file_of_another_length_is_a_named_error(
    loose: Page, serve_tables: Callable[..., Ranged], length: int
) -> None:
    served = serve_tables()
    body = (served.folder / "small/rows.int8.bin").read_bytes()
    served.fault = instead(body[:length].ljust(length, b"\0"))  # 416 where it ends before the rows
    tab = Tab(loose, served)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([30_000]))
    assert code == "model-corrupt" and "another size" in message
    assert len(served.asked) == 1, "asking again would not help"


def test_connections_that_break_cost_time_and_nothing_else(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    chance = random.Random(1)
    served = serve_tables(times=8)
    served.fault = lambda handler: cut_after(chance.randrange(1, BLOCK))(handler)
    tab = Tab(loose, served, HURRY)
    tab.open("small/lock.json", "stream")
    tab.load([*IDS, *range(20_000, 20_600)])
    assert served.times == 0


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (500, 4), (503, 4)])
def test_a_server_that_refuses_ends_the_call_and_not_the_page(
    loose: Page, serve_tables: Callable[..., Ranged], status: int, asked: int
) -> None:
    served = serve_tables(fault=refuse(status))
    tab = Tab(loose, served, HURRY)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([5]))
    assert code == "fetch-failed" and str(status) in message and len(served.asked) == asked
    served.fault = None
    tab.load(IDS)


def test_a_server_that_stumbles_is_asked_again(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    tab = Tab(loose, serve_tables(fault=refuse(503), times=2), HURRY)
    tab.open("small/lock.json", "stream")
    tab.load([5])


def test_an_answer_that_stands_still_is_given_up(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    event = threading.Event()
    tab = Tab(loose, serve_tables(fault=wait_for(event)), HURRY)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([5]))
    event.set()
    assert code == "fetch-failed" and "no byte" in message


def test_a_slow_answer_holds_up_nobody_else(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables()
    tab = Tab(loose, served)
    tab.open("small/lock.json", "stream")
    tab.load([5])
    event = threading.Event()
    served.fault = wait_for(event)
    tab.run("() => { self.slow = rows.load(Int32Array.of(5, 20000)); }")
    tab.load([5, 6])
    served.fault = None
    tab.load([25_000])
    event.set()
    assert tab.run("async () => (await slow).size") == 2


# The disk.


def test_a_large_table_is_on_disk_and_a_small_one_in_memory(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    stats = tab.open("small/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "memory", SMALL * RECORD)
    assert served.asked == [None]
    served.asked.clear()
    stats = tab.open("big/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "disk", 0)
    assert stats["requests"] == len(served.asked) == 1 and stats["bytes"] == SIZE
    tab.load(range(0, BIG, 11))
    assert len(served.asked) == 1
    again = Tab(page, served)
    again.open("big/lock.json", "all")
    again.load(IDS)
    assert len(served.asked) == 1


def test_a_small_table_is_loaded_whole_and_a_large_one_as_it_is_used(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    usual = {model: tab.open(f"{model}/lock.json", None, "stream")["mode"] for model in ("small", "big")}
    assert usual == {"small": "all", "big": "stream"}


def test_only_the_latest_blocks_stay_in_memory(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tab.open("big/lock.json", "all")
    ids = [(i * 7919) % BIG for i in range(6000)]
    held = [tab.load(ids[at : at + 500])["held"] for at in range(0, len(ids), 500)]
    assert max(held) <= 16e6 and held[-1] > 15e6


def test_a_download_that_breaks_goes_on_where_it_was(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    chance = random.Random(2)
    served = serve_tables(times=20)
    served.fault = lambda handler: cut_after(chance.randrange(BLOCK, 2_000_000))(handler)
    tab = Tab(loose, served, HURRY)
    tab.open("big/lock.json", "all")
    assert served.times == 0 and served.sent < SIZE + 20 * 4 * BLOCK
    tab.load(range(0, BIG, 11))


def test_a_visit_goes_on_with_what_the_one_before_has_left(loose: Page, serve_tables: Callable[..., Ranged]) -> None:
    served = serve_tables()
    over = threading.Event()

    def cut_then_hang(handler: Any) -> None:
        if len(served.asked) == 1:
            cut_after(10_000_000)(handler)
        else:
            over.wait(60)

    served.fault = cut_then_hang
    Tab(loose, served).run(f"(args) => void ({OPEN})(args)", ["big/lock.json", "all", "all"])
    until(loose, lambda: len(served.asked) > 1)
    again = Tab(loose, served)
    served.fault = None
    over.set()
    served.asked.clear()
    again.open("big/lock.json", "all")
    assert served.ranges()[0][0] > 9_900_000
    again.load(range(0, BIG, 11))


def test_two_tabs_load_the_table_once(loose: Page, served: Ranged) -> None:
    tabs = [Tab(page, served) for page in (loose, loose.context.new_page())]
    for tab in tabs:
        tab.run(f"(args) => {{ self.opening = ({OPEN})(args); }}", ["big/lock.json", "all", "all"])
    for tab in tabs:
        assert tab.run("() => opening")["mode"] == "all"
        tab.load(IDS)
    assert served.sent == SIZE


def test_a_damaged_block_is_fetched_again(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tab.open("big/lock.json", "all")
    damage = """async () => {
        const access = await (await file()).createSyncAccessHandle();
        const bytes = new Uint8Array(access.getSize());
        access.read(bytes, { at: 0 });
        for (let at = 50; at < bytes.length; at += 400000) bytes[at] ^= 1;
        access.write(bytes, { at: 0 });
        access.close();
    }"""
    other = Tab(page, served)
    other.run(FILE + damage)
    served.asked.clear()
    again = Tab(page, served)
    again.open("big/lock.json", "all")
    again.load(range(0, BIG, 11))
    assert 50 < len(served.asked) < 65 and None not in served.asked


def test_another_tab_that_has_the_file_alone_does_not_hinder(page: Page, served: Ranged) -> None:
    Tab(page, served).open("big/lock.json", "all")
    tab = Tab(page, served)
    tab.run(FILE + "async () => { self.access = await (await file()).createSyncAccessHandle(); }")
    served.asked.clear()
    assert tab.open("big/lock.json", "all")["place"] == "disk"
    tab.load(range(0, BIG, 11))
    assert served.asked == []


def test_a_table_of_a_former_model_is_dropped(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    names = """async () => {
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('insitu-rows');
        const found = [];
        for await (const owner of folder.values()) for await (const name of owner.keys()) found.push(name);
        return found;
    }"""
    tab.open("big/lock.json", "stream")
    (big,) = tab.run(names)
    again = Tab(page, served)
    again.open("small/lock.json", "stream")
    (small,) = again.run(names)
    assert big != small


def test_without_room_rows_come_on_demand_unless_all_were_wanted(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    tools = page.context.new_cdp_session(page)
    tools.send("Storage.overrideQuotaForOrigin", {"origin": served.address.rstrip("/"), "quotaSize": 10_000_000})
    code, message = tab.error(lambda: tab.open("big/lock.json", "all"))
    assert code == "storage-unavailable" and "Quota" in message
    stats = tab.open("big/lock.json", None, "all")
    assert stats["mode"] == "stream" and "Quota" in stats["reason"]
    tab.load(range(0, BIG, 11))


def test_without_a_private_file_system_a_table_is_in_memory_or_comes_on_demand(page: Page, served: Ranged) -> None:
    tab = Tab(page, served, QUIET + NO_DISK)
    stats = tab.open("big/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "memory", SIZE)
    assert "private file system" in stats["reason"]
    tab.load(range(0, BIG, 11))
    stats = tab.open("big/lock.json", "stream")
    assert (stats["mode"], stats["place"]) == ("stream", "memory")
    tab.load(range(0, BIG, 211))
    assert tab.load(range(30_000, BIG, 61))["held"] <= 16e6


def test_a_table_too_large_for_memory_and_no_disk_is_a_named_error(page: Page, served: Ranged) -> None:
    tab = Tab(page, served, QUIET + NO_DISK)
    assert tab.error(lambda: tab.open("huge/lock.json", "all"))[0] == "storage-unavailable"
    assert tab.open("huge/lock.json", None, "all")["mode"] == "stream"
    assert served.asked == []


def test_a_lock_that_does_not_fit_its_table_is_a_named_error(page: Page, served: Ranged) -> None:
    tab = Tab(page, served)
    changed = OPEN.replace("const store", "table.row_bits = 4; const store")
    assert tab.error(lambda: tab.run(changed, ["small/lock.json", "all", "all"]))[0] == "model-corrupt"
    changed = OPEN.replace("const store", "table.row_count -= 1; const store")
    assert tab.error(lambda: tab.run(changed, ["small/lock.json", "all", "all"]))[0] == "model-corrupt"
