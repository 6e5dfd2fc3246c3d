"""Token rows on demand: the same rows from parts of the table as from all of it, whatever the server does."""

from __future__ import annotations

import random
import threading

import pytest
from playwright.sync_api import Page

from page.folder import Served, cut_after, refuse, wait_for, without_ranges
from page.rows.conftest import ServeTables
from page.rows.tab import BIG, BLOCK, HURRY, IDS, NO_DISK, RECORD, SIZE, SMALL, Tab, until

ROWS = "/small/rows.int8.bin"


def test_rows_are_those_of_the_whole_table(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    assert tab.open("small/lock.json", "stream")["mode"] == "stream"
    assert served.parts == []
    stats = tab.load(IDS)
    assert "" not in served.parts and all(first % BLOCK == 0 for first, _ in served.ranges())
    assert stats["requests"] == len(served.parts)
    assert stats["bytes"] == served.sent == sum(last + 1 - first for first, last in served.ranges())
    assert served.sent == 6 * BLOCK + 58 * RECORD  # the last block is shorter


def test_blocks_beside_each_other_come_in_one_request(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    tab.load([64 * block for block in (9, 7, 5, 4)])  # 6 and 8 are bridged, and kept
    assert served.ranges() == [(4 * BLOCK, 10 * BLOCK - 1)]
    tab.load([64 * block for block in (6, 8, 12)])
    assert served.ranges()[1:] == [(12 * BLOCK, 13 * BLOCK - 1)]


def test_a_few_requests_run_at_once_and_not_more(page: Page, serve_tables: ServeTables) -> None:
    served = serve_tables(fault=lambda handler: threading.Event().wait(0.1) and None)
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    tab.load(range(0, 30_000, 640))
    assert len(served.parts) == 47 and served.most_at_once == 4


def test_callers_at_the_same_time_share_one_fetch(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    sizes = "async (ids) => (await Promise.all(ids.map((ids) => rows.load(Int32Array.from(ids))))).map((m) => m.size)"
    assert tab.run(sizes, [[1, 2000], [2000, 1], [1, 20_000]]) == [2, 2, 2]
    assert sorted(served.ranges()) == [(b * BLOCK, (b + 1) * BLOCK - 1) for b in (0, 31, 312)]


def test_a_second_visit_asks_for_no_row_again(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    assert tab.open("small/lock.json", "stream")["place"] == "disk"
    tab.load(IDS)
    served.parts.clear()
    again = Tab(page, served)
    again.open("small/lock.json", "stream")
    assert again.load(IDS)["requests"] == 0 and served.parts == []


def test_frequent_rows_come_ahead_in_idle_time(page: Page, served: Served) -> None:
    tab = Tab(page, served, b"")
    tab.open("big/lock.json", "stream")
    tab.run("() => void rows.fetchAhead(Int32Array.of(59999))")
    until(page, lambda: tab.stats()["bytes"] > 7.9e6)
    assert served.sent < 8.03e6 and served.most_at_once == 1
    assert served.ranges()[0][0] == 59_968 * RECORD, "what was named comes first"
    assert all(last + 1 - first < 1.1e6 for first, last in served.ranges())
    asked = len(served.parts)
    tab.load([*range(0, 20_000, 37), 59_999])
    assert len(served.parts) == asked


def test_nothing_comes_ahead_where_data_are_saved(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    tab.open("big/lock.json", "stream")
    tab.run("() => rows.fetchAhead(Int32Array.of(1))")
    assert served.parts == []


@pytest.mark.parametrize("mode", ["all", "stream"])
@pytest.mark.parametrize("model", ["small", "big"])
def test_ids_beyond_the_table_are_a_named_error(page: Page, served: Served, model: str, mode: str) -> None:
    tab = Tab(page, served)
    tab.open(f"{model}/lock.json", mode)
    for ids in ([5, {"small": SMALL, "big": BIG}[model]], [-1]):
        # mypy does not know the type of a default of a lambda; without one, it would be bound late.
        code, message = tab.error(lambda ids=ids: tab.load(ids))  # type: ignore[misc]
        assert code == "model-corrupt" and str(ids[-1]) in message


# A server, or a network, that does not do what it should.


def test_a_server_without_ranges_sends_the_file_once(page: Page, serve_tables: ServeTables) -> None:
    served = serve_tables(fault=without_ranges)
    tab = Tab(page, served)
    tab.open("big/lock.json", "stream")
    tab.load([15_000, 30_521])
    until(page, lambda: tab.stats()["bytes"] >= SIZE)
    assert not tab.stats()["ranges"]
    asked = len(served.parts)
    tab.load(range(0, BIG, 501))
    assert len(served.parts) == asked
    assert tab.stats()["held"] < 16e6


def test_a_server_without_ranges_and_no_room_is_a_named_error(page: Page, serve_tables: ServeTables) -> None:
    served = serve_tables(fault=without_ranges)
    tab = Tab(page, served, NO_DISK)
    assert tab.open("big/lock.json", "stream")["place"] == "memory"
    code, message = tab.error(lambda: tab.load(IDS))
    assert code == "range-unsupported" and "23 MB" in message


def test_a_changed_file_gives_an_error_and_never_a_row(page: Page, serve_tables: ServeTables) -> None:
    served = serve_tables()
    body = bytearray((served.folder / "small/rows.int8.bin").read_bytes())
    for block in range(0, len(body), BLOCK):
        body[block + 7] ^= 1
    served.instead[ROWS] = bytes(body)
    tab = Tab(page, served)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load(IDS))
    assert code == "model-corrupt" and "rows.int8.bin" in message
    served.instead.clear()  # the right file is back
    tab.load(IDS)


@pytest.mark.parametrize("length", [100, 20_000 * RECORD, SMALL * RECORD + 4])
def test_a_file_of_another_length_is_a_named_error(faulty: Page, serve_tables: ServeTables, length: int) -> None:
    served = serve_tables()
    body = (served.folder / "small/rows.int8.bin").read_bytes()
    served.instead[ROWS] = body[:length].ljust(length, b"\0")  # 416 where it ends before the rows
    tab = Tab(faulty, served)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([30_000]))
    assert code == "model-corrupt" and "another size" in message
    assert len(served.parts) == 1, "asking again would not help"


def test_connections_that_break_cost_time_and_nothing_else(faulty: Page, serve_tables: ServeTables) -> None:
    chance = random.Random(1)
    served = serve_tables(times=8)
    served.fault = lambda handler: cut_after(chance.randrange(1, BLOCK))(handler)
    tab = Tab(faulty, served, HURRY)
    tab.open("small/lock.json", "stream")
    tab.load([*IDS, *range(20_000, 20_600)])
    assert served.times == 0


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (500, 4), (503, 4)])
def test_a_server_that_refuses_ends_the_call_and_not_the_page(
    faulty: Page, serve_tables: ServeTables, status: int, asked: int
) -> None:
    served = serve_tables(fault=refuse(status))
    tab = Tab(faulty, served, HURRY)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([5]))
    assert code == "fetch-failed" and str(status) in message and len(served.parts) == asked
    served.fault = None
    tab.load(IDS)


def test_a_server_that_stumbles_is_asked_again(faulty: Page, serve_tables: ServeTables) -> None:
    tab = Tab(faulty, serve_tables(fault=refuse(503), times=2), HURRY)
    tab.open("small/lock.json", "stream")
    tab.load([5])


def test_an_answer_that_stands_still_is_given_up(faulty: Page, serve_tables: ServeTables) -> None:
    event = threading.Event()
    tab = Tab(faulty, serve_tables(fault=wait_for(event)), HURRY)
    tab.open("small/lock.json", "stream")
    code, message = tab.error(lambda: tab.load([5]))
    event.set()
    assert code == "fetch-failed" and "no byte" in message


def test_a_slow_answer_holds_up_nobody_else(faulty: Page, serve_tables: ServeTables) -> None:
    served = serve_tables()
    tab = Tab(faulty, served)
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
