"""`insitu models verify`, as users run it, on the tiny random Gemma, with golden vectors that transformers gave."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insitu.model import cache
from insitu.model.export import export
from make_checkpoint import make

GOLDEN = json.loads((Path(__file__).parent / "data/tiny-gemma/golden.json").read_text(encoding="utf-8"))


def half(embedding: str) -> str:
    vector = np.frombuffer(base64.b64decode(embedding), "<f4")
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights and golden files, exported as fp32. The card names what a similarity should be."""
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path / "models"))
    folder = make(tmp_path / "checkpoint")
    cases: list[dict[str, Any]] = [case | {"embedding": half(case["embedding"])} for case in GOLDEN["cases"][:4]]
    query, *documents = (case["name"] for case in cases)
    card = {"query": query, "documents": documents, "published": [0.5] * len(documents)}
    (folder / "golden.json").write_text(json.dumps({"cases": cases[:2]}))
    (folder / "golden-more.json").write_text(json.dumps({"cases": cases[2:], "similarities": card}))
    export(str(folder), "fp32", out=cache.export_dir("tiny-gemma", "fp32"))
    return folder


def verify(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "insitu", "models", "verify", str(folder), "--variant", "fp32", *more]
    return subprocess.run(command, capture_output=True, encoding="utf-8")


def test_a_whole_export_passes_and_tells_cosines_and_the_cards_similarities(model: Path) -> None:
    done = verify(model, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"] and found["cases"] == 4 and found["wrong_ids"] == []
    assert list(found["cosines"]) == ["96", "48", "32"]
    assert all(0.99999 < worst <= mean < 1.00001 for mean, worst in found["cosines"].values())
    vectors = {c["name"]: np.frombuffer(base64.b64decode(c["embedding"]), "<f4") for c in GOLDEN["cases"][:4]}
    query = vectors[GOLDEN["cases"][0]["name"]]
    assert len(found["similarities"]) == 3
    for name, (similarity, published) in found["similarities"].items():
        assert published == 0.5 and similarity == pytest.approx(float(query @ vectors[name]), abs=1e-4)


@pytest.mark.parametrize("change", ["ids", "vector"])
def test_other_ids_or_vectors_fail_and_are_named(model: Path, change: str) -> None:
    golden = json.loads((model / "golden.json").read_text())
    first, second = golden["cases"]
    if change == "ids":
        first["token_ids"][1] += 1
    else:
        first["embedding"] = second["embedding"]
    (model / "golden.json").write_text(json.dumps(golden))
    done = verify(model)
    assert done.returncode != 0 and "model-corrupt" in done.stderr
    told = f"not the same in: {first['name']}" if change == "ids" else f"worst: {first['name']}"
    assert told in done.stderr
