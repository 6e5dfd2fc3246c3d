"""The whole page (model, worker, Python) is killed at random moments of its writing: a collection loses nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from page.conftest import bundle
from page.folder import Served
from page.killing import Stamps, blank, kill_pages, log

# 50 where there is time: see docs/development.md.
KILLS = int(os.environ.get("INSITU_KILLS", "6"))
SEED = int(os.environ.get("INSITU_SEED", "7"))
# Steps, and how many are acknowledged at most before the page is killed. Puts are small: of a large one nearly every moment is
# embedding. What is to be tidied after a commit is tidied by itself: "tidy" waits for that. Sixteen puts of 4 documents call
# for all to be written again, 32 of one for joining segments.
ACTS = [("all", 2), ("put delete", 20), ("put tidy", 60), ("put delete import", 20), ("one tidy", 80)]
ACTS += [("put delete reembed", 9)]
IDS, PUT, DELETED, COMMIT = 150, 4, 2, 128
# The step under way happened or did not; the message of one or two that did may have died with the page.
UNHEARD = 4

OPEN = """async () => {
    const { open } = await import('/insitu/insitu.js');
    window.killed = await import('/killed.js');
    window.insitu = await open();
    window.notes = await killed.openNotes(insitu);
}"""
WRITE = "([act, seed]) => void killed.write(insitu, notes, act, seed)"
EXAMINE = "(seed) => killed.examine(notes, seed)"


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    bundle("killed.ts", site / "killed.js")
    with Served(site).running() as served:
        yield served


def opened(disk: Browser, served: Served) -> Page:
    page = blank(disk, served)
    page.set_default_timeout(120_000)
    page.evaluate(OPEN)
    return page


def states(start: Stamps, act: str, seed: int) -> Iterator[Stamps]:
    """What `write` of killed.ts has made of `start` before its first message, and after each."""
    yield start
    state = start
    for i in count():
        ids = [str((seed * 7 + i * 13 + j) % IDS) for j in range(IDS)]
        stamp = f"{seed}.{i}"
        for step in act.split():
            if step == "all":
                state = state | dict.fromkeys(ids[:COMMIT], stamp)
                yield state
            written = {"all": IDS, "put": PUT, "one": 1}.get(step, 0)
            state = (start if step == "import" else state) | dict.fromkeys(ids[:written], stamp)
            if step == "delete":
                state = {id: stamp for id, stamp in state.items() if id not in ids[:DELETED]}
            yield state


@pytest.mark.slow
def test_a_page_killed_while_it_writes_loses_nothing_that_was_acknowledged(disk: Browser, served: Served) -> None:
    print(f"{KILLS} kills, seed {SEED}")
    stamps: Stamps = {}
    page = opened(disk, served)
    for kill in range(KILLS):
        seed = SEED + kill
        chance = random.Random(seed)
        act, most = ACTS[kill % len(ACTS)]
        heard, later = chance.randint(1, most), chance.uniform(0, 80)
        done: list[str] = []
        page.on("console", partial(log, done))
        with page.expect_event("crash", timeout=60_000):
            page.evaluate(WRITE, [act, seed])
            while len(done) < heard:
                page.wait_for_event("console", lambda _, heard=heard, done=done: len(done) >= heard)
            page.wait_for_timeout(later)
            kill_pages(disk)
        page.close()
        what = f"seed {seed}, {act!r}: killed {later:.0f} ms after message {heard}, {len(done)} came"
        print(what)
        assert set(done) == {"done"}, what
        page = opened(disk, served)
        found = page.evaluate(EXAMINE, seed)
        assert found["wrong"] == [], what
        possible = list(islice(states(stamps, act, seed), len(done), len(done) + UNHEARD))
        assert found["stamps"] in possible, what
        stamps = found["stamps"]
    page.close()
