"""The benchmark's own parts: the texts it draws, the graph it gives its rival, and a small scan, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from insitu.model.export import export
from insitu.model.exported import read_lock

ROOT = Path(__file__).resolve().parents[1]


def measured(folder: Path, model_dir: Path, *options: str) -> Any:
    """What a run of the benchmark writes."""
    file = folder / "bench.json"
    command = [sys.executable, str(ROOT / "tests/bench/run.py"), *options, "--json", str(file)]
    env = {**os.environ, "INSITU_MODELS": str(model_dir.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


@pytest.mark.browser
def test_a_small_scan_is_measured_and_written(tmp_path: Path, model_dir: Path, web_dist: Path) -> None:
    data = measured(tmp_path, model_dir, "--only", "scan", "--vectors", "500")
    (scan,) = data["figures"]
    assert scan["measure"] == "scan of 500 x 128"
    assert 0 <= scan["least"] <= scan["median"]  # 0: a fast machine needs less than one step of the clock, 5 us
    recall = {row["what"].split(": ")[1]: row["value"] for row in data["budgets"]}
    assert recall["recall@10 against the same codes"] == 1.0
    # 500 vectors lie far apart: a lost place among ten is then a fault, not a near tie.
    assert recall["recall@10 against float32"] >= 0.99
    assert data["machine"]["cores"] and data["versions"]["onnxruntime"]


@pytest.mark.browser
@pytest.mark.slow
def test_a_small_collection_and_small_puts_are_measured(tmp_path: Path, model_dir: Path, web_dist: Path) -> None:
    sizes = ["--vectors", "500", "--documents", "400", "--notes", "8", "--rounds", "1"]
    data = measured(tmp_path, model_dir, "--only", "collection,put", *sizes)
    figures = {(row["measure"], row["subject"]): row for row in data["figures"]}
    # 128 codes, a scale, a document number.
    assert figures["collection of 400: bytes a vector", "IndexedDB, its segments"]["median"] == 136
    asked = "collection of 400: question, k = 10"
    alone, whole = (figures[asked, subject]["median"] for subject in ("embedding it", "search"))
    assert alone < whole
    assert figures[asked, "search beyond it, in pairs"]["low"] < figures[asked, "search beyond it, in pairs"]["high"]
    put = {subject: row["median"] for (_, subject), row in figures.items()}
    assert 0 < put["of that, the store"] < put["of that, embedding"] < put["put"]
    assert data["budgets"][-1]["what"].endswith("the store / embedding")


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/run.py"), "--only", "speed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose from query, bulk, start, scan, collection, put, memory, gemma, million, peers" in done.stderr


def test_variants_are_made_together_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's exports share what takes longest to find."""
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    import gemma

    folders = gemma.prepare(tmp_path, full=False)
    assert list(folders) == ["int8", "q8", "q4"]
    alone = export(str(tmp_path / "random-gemma"), "q8", out=tmp_path / "alone")
    assert read_lock(folders["q8"]) == read_lock(alone), "hashes of all files included"
    made = (folders["q4"] / "model.lock.json").stat().st_mtime_ns
    assert gemma.prepare(tmp_path, full=False) == folders
    assert (folders["q4"] / "model.lock.json").stat().st_mtime_ns == made, "they are there and are not made again"


@pytest.mark.browser
@pytest.mark.slow
def test_what_a_page_holds_is_measured_without_a_debugger(
    monkeypatch: pytest.MonkeyPatch, model_dir: Path, web_dist: Path, chromium_path: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    import unwatched
    from browser import Site

    monkeypatch.setattr(unwatched, "GIVEN_BACK_S", 2)
    site = Site({"bench": ROOT / "tests/bench", "insitu": web_dist, "model": model_dir})
    try:
        blank = unwatched.blank(chromium_path, site)
        options = {"base": "/insitu", "model": "/model/model.lock.json"}
        visits = unwatched.visits(chromium_path, site, options, "where is the kettle")
        with pytest.raises(RuntimeError, match="The page failed"):
            unwatched.visits(chromium_path, site, options | {"model": "/model/none.json"}, "where is the kettle")
    finally:
        site.close()
    graph = read_lock(model_dir).graph.bytes
    for visit in visits:
        assert visit.counted > graph
        for held in (visit.at_once, visit.later):
            assert held.resident > blank.resident + graph and blank.private + graph < held.private < held.resident
