"""Rows of 4 bits are the same in the page as in CPython."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import Page

from insitu.model.quantise import pack_rows, packed_bytes, unpack_rows
from page.folder import Served
from page.rows.tab import Tab

# The rows of a table, one after another, and their scales, by what the engine reads them with.
READ = """([table, size, bits]) => {
    const record = parts.recordBytes(size, bits);
    const bytes = Uint8Array.from(table);
    const rows = [];
    for (let at = 3; at + record <= bytes.length; at += record) {  // nothing is aligned
        const row = new Int8Array(size);
        const scale = parts.readRow(bytes, at, record, new Uint8Array(row.buffer));
        rows.push([[...row], scale]);
    }
    return [record, rows];
}"""


@pytest.mark.parametrize("size", [96, 64, 33, 31, 768])
def test_rows_of_4_bits_are_unpacked_as_in_cpython(page: Page, served: Served, size: int) -> None:
    random = np.random.default_rng(size)
    rows = (random.normal(size=(40, size)) * np.exp(random.normal(size=(40, 1)))).astype(np.float32)
    rows[7] = 0
    codes, scales = pack_rows(rows)
    table = np.concatenate([codes, scales.astype("<f4")[:, None].view(np.uint8)], axis=1)
    tab = Tab(page, served)
    tab.run("async () => undefined")
    record, found = tab.run(READ, [[0, 0, 0, *table.ravel().tolist()], size, 4])
    assert record == packed_bytes(size) + 4
    assert [row for row, _ in found] == unpack_rows(codes, size).tolist()
    assert [scale for _, scale in found] == scales.tolist()
