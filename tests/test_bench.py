"""The benchmark's own parts: the texts it draws, the graph it gives its rival, and a small scan, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.browser
def test_a_small_scan_is_measured_and_written(tmp_path: Path, model_dir: Path, web_dist: Path) -> None:
    file = tmp_path / "bench.json"
    command = [
        sys.executable,
        str(ROOT / "tests/bench/run.py"),
        "--only",
        "scan",
        "--vectors",
        "500",
        "--json",
        str(file),
    ]
    env = {**os.environ, "INSITU_MODELS": str(model_dir.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(file.read_text())
    (scan,) = data["figures"]
    assert scan["measure"] == "scan of 500 x 128"
    assert 0 <= scan["least"] <= scan["median"]  # 0: a fast machine needs less than one step of the clock, 5 us
    recall = {row["what"].split(": ")[1]: row["value"] for row in data["budgets"]}
    assert recall["recall@10 against the same codes"] == 1.0
    # 500 vectors lie far apart: a lost place among ten is then a fault, not a near tie.
    assert recall["recall@10 against float32"] >= 0.99
    assert data["machine"]["cores"] and data["versions"]["onnxruntime"]


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, str(ROOT / "tests/bench/run.py"), "--only", "speed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose from query, bulk, start, scan, gemma, million, peers" in done.stderr
