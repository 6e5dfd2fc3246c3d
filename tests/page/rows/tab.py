"""A page with the module of token rows in a worker, on tables of several sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from page.folder import Served

RECORD = 388  # bytes: 384 codes and a scale
BLOCK = 64 * RECORD
SMALL, BIG, HUGE = 30_522, 60_000, 400_000  # rows: 12, 23 and 155 MB
SIZE = BIG * RECORD
IDS = [101, 7632, 1037, 15_000, 15_001, 30_521, 2, 22_222, 102]
# Before all else in the worker: nothing is fetched ahead where the visitor saves data.
QUIET = b"Object.defineProperty(NetworkInformation.prototype, 'saveData', { get: () => true });"
# Waits last a hundredth.
HURRY = b"const later = setTimeout; self.setTimeout = (act, ms) => later(act, ms / 100);"
# No private file system.
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

    def __init__(self, page: Page, served: Served, before: bytes = QUIET) -> None:
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


def until(page: Page, holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail("it did not come about within half a minute")
