"""The file of token rows on disk: what is loaded once, what a broken visit leaves, damage, tabs, no room."""

from __future__ import annotations

import random
import threading
from typing import Any

from playwright.sync_api import Page

from page.folder import Served, cut_after
from page.rows.conftest import ServeTables
from page.rows.tab import BIG, BLOCK, FILE, HURRY, IDS, NO_DISK, OPEN, QUIET, RECORD, SIZE, SMALL, Tab, until


def test_a_large_table_is_on_disk_and_a_small_one_in_memory(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    stats = tab.open("small/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "memory", SMALL * RECORD)
    assert served.parts == [""]
    served.parts.clear()
    stats = tab.open("big/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "disk", 0)
    assert stats["requests"] == len(served.parts) == 1 and stats["bytes"] == SIZE
    tab.load(range(0, BIG, 11))
    assert len(served.parts) == 1
    again = Tab(page, served)
    again.open("big/lock.json", "all")
    again.load(IDS)
    assert len(served.parts) == 1


def test_a_small_table_is_loaded_whole_and_a_large_one_as_it_is_used(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    usual = {model: tab.open(f"{model}/lock.json", None, "stream")["mode"] for model in ("small", "big")}
    assert usual == {"small": "all", "big": "stream"}


def test_only_the_latest_blocks_stay_in_memory(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    tab.open("big/lock.json", "all")
    ids = [(i * 7919) % BIG for i in range(6000)]
    held = [tab.load(ids[at : at + 500])["held"] for at in range(0, len(ids), 500)]
    assert max(held) <= 16e6 and held[-1] > 15e6


def test_a_download_that_breaks_goes_on_where_it_was(faulty: Page, serve_tables: ServeTables) -> None:
    chance = random.Random(2)
    served = serve_tables(times=20)
    served.fault = lambda handler: cut_after(chance.randrange(BLOCK, 2_000_000))(handler)
    tab = Tab(faulty, served, HURRY)
    tab.open("big/lock.json", "all")
    assert served.times == 0 and served.sent < SIZE + 20 * 4 * BLOCK
    tab.load(range(0, BIG, 11))


def test_a_visit_goes_on_with_what_the_one_before_has_left(faulty: Page, serve_tables: ServeTables) -> None:
    served = serve_tables()
    over = threading.Event()

    def cut_then_hang(handler: Any) -> None:
        if len(served.parts) == 1:
            cut_after(10_900_000, linger=2)(handler)  # a busy machine reads slowly
        else:
            over.wait(60)

    served.fault = cut_then_hang
    Tab(faulty, served).run(f"(args) => void ({OPEN})(args)", ["big/lock.json", "all", "all"])
    until(faulty, lambda: len(served.parts) > 1)
    again = Tab(faulty, served)
    served.fault = None
    over.set()
    served.parts.clear()
    again.open("big/lock.json", "all")
    assert served.ranges()[0][0] > 10_800_000
    again.load(range(0, BIG, 11))


def test_blocks_are_written_together(page: Page, served: Served) -> None:
    count = b"""self.writes = 0;
        const { write } = FileSystemSyncAccessHandle.prototype;
        FileSystemSyncAccessHandle.prototype.write = function (...given) { writes++; return write.apply(this, given); };"""
    tab = Tab(page, served, QUIET + count)
    tab.open("big/lock.json", "all")
    assert tab.run("() => writes") < SIZE / BLOCK / 10
    tab.load(range(0, BIG, 11))
    assert len(served.parts) == 1


def test_blocks_that_come_slowly_are_on_disk_a_second_later(faulty: Page, serve_tables: ServeTables) -> None:
    served = serve_tables(pace=0.6)
    Tab(faulty, served).run(f"(args) => void ({OPEN})(args)", ["big/lock.json", "all", "all"])
    until(faulty, lambda: served.sent > 700_000)
    again = Tab(faulty, served)
    served.pace = 0
    served.parts.clear()
    again.open("big/lock.json", "all")
    assert served.ranges()[0][0] >= 250_000
    again.load(range(0, BIG, 11))


def test_two_tabs_load_the_table_once(faulty: Page, served: Served) -> None:
    tabs = [Tab(page, served) for page in (faulty, faulty.context.new_page())]
    for tab in tabs:
        tab.run(f"(args) => {{ self.opening = ({OPEN})(args); }}", ["big/lock.json", "all", "all"])
    for tab in tabs:
        assert tab.run("() => opening")["mode"] == "all"
        tab.load(IDS)
    assert served.sent == SIZE


def test_a_damaged_block_is_fetched_again(page: Page, served: Served) -> None:
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
    served.parts.clear()
    again = Tab(page, served)
    again.open("big/lock.json", "all")
    again.load(range(0, BIG, 11))
    assert 50 < len(served.parts) < 65 and "" not in served.parts


def test_another_tab_that_has_the_file_alone_does_not_hinder(page: Page, served: Served) -> None:
    Tab(page, served).open("big/lock.json", "all")
    tab = Tab(page, served)
    tab.run(FILE + "async () => { self.access = await (await file()).createSyncAccessHandle(); }")
    served.parts.clear()
    assert tab.open("big/lock.json", "all")["place"] == "disk"
    tab.load(range(0, BIG, 11))
    assert served.parts == []


def test_a_table_of_a_former_model_is_dropped(page: Page, served: Served) -> None:
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


def test_without_room_rows_come_on_demand_unless_all_were_wanted(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    tools = page.context.new_cdp_session(page)
    tools.send("Storage.overrideQuotaForOrigin", {"origin": served.address.rstrip("/"), "quotaSize": 10_000_000})
    code, message = tab.error(lambda: tab.open("big/lock.json", "all"))
    assert code == "storage-unavailable" and "Quota" in message
    stats = tab.open("big/lock.json", None, "all")
    assert stats["mode"] == "stream" and "Quota" in stats["reason"]
    tab.load(range(0, BIG, 11))


def test_without_a_private_file_system_a_table_is_in_memory_or_comes_on_demand(page: Page, served: Served) -> None:
    tab = Tab(page, served, QUIET + NO_DISK)
    stats = tab.open("big/lock.json", "all")
    assert (stats["mode"], stats["place"], stats["held"]) == ("all", "memory", SIZE)
    assert "private file system" in stats["reason"]
    tab.load(range(0, BIG, 11))
    stats = tab.open("big/lock.json", "stream")
    assert (stats["mode"], stats["place"]) == ("stream", "memory")
    tab.load(range(0, BIG, 211))
    assert tab.load(range(30_000, BIG, 61))["held"] <= 16e6


def test_a_table_too_large_for_memory_and_no_disk_is_a_named_error(page: Page, served: Served) -> None:
    tab = Tab(page, served, QUIET + NO_DISK)
    assert tab.error(lambda: tab.open("huge/lock.json", "all"))[0] == "storage-unavailable"
    assert tab.open("huge/lock.json", None, "all")["mode"] == "stream"
    assert served.parts == []


def test_a_lock_that_does_not_fit_its_table_is_a_named_error(page: Page, served: Served) -> None:
    tab = Tab(page, served)
    changed = OPEN.replace("const store", "table.row_bits = 4; const store")
    assert tab.error(lambda: tab.run(changed, ["small/lock.json", "all", "all"]))[0] == "model-corrupt"
    changed = OPEN.replace("const store", "table.row_bits = 2; const store")
    code, message = tab.error(lambda: tab.run(changed, ["small/lock.json", "all", "all"]))
    assert code == "model-corrupt" and "this release" in message
    changed = OPEN.replace("const store", "table.row_count -= 1; const store")
    assert tab.error(lambda: tab.run(changed, ["small/lock.json", "all", "all"]))[0] == "model-corrupt"
