"""Tables of token rows, served."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insitu.model.rows import read_rows, write_rows
from page.folder import Served
from page.rows.tab import BIG, HUGE, RECORD, SMALL

ServeTables = Callable[..., Served]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory, site: Path, model_dir: Path, runtime: Any) -> Path:
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
def serve_tables(tables: Path) -> Iterator[ServeTables]:
    """serve_tables(**faults) -> Served, for the length of one test."""
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(Served(tables, **faults).running())


@pytest.fixture
def served(serve_tables: ServeTables) -> Served:
    return serve_tables()
