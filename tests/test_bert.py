"""BERT encoders besides MiniLM: both kinds of pooling, on random weights, against transformers."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insitu.embedder import Embedder
from insitu.errors import ModelCorrupt
from insitu.model import manifest
from insitu.model.export import export
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make_bert
from page.conftest import wait

GOLDEN = json.loads((Path(__file__).parent / "data/tiny-bert/golden.json").read_text(encoding="utf-8"))


def vectors(embedder: Embedder, texts: list[str]) -> Any:
    block = wait(embedder.embed(texts, task="none")).block
    return np.frombuffer(block.vectors(), "<f4").reshape(len(texts), -1)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_both_poolings_are_those_of_transformers(pooling: str, tmp_path: Path) -> None:
    folder = make_bert(tmp_path / "checkpoint", pooling=pooling)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == GOLDEN["model_safetensors_sha256"]
    runtime = NativeRuntime.open(export(str(folder), out=tmp_path / "out"), threads=1)
    embedder = Embedder(runtime, runtime.lock)
    texts = [case["text"] for case in GOLDEN["cases"]]
    ids = wait(embedder.token_ids(texts, task="none"))
    assert [list(found) for found in ids] == [case["token_ids"] for case in GOLDEN["cases"]]
    wanted = np.array([np.frombuffer(base64.b64decode(case[pooling]), "<f4") for case in GOLDEN["cases"]])
    cosines = (vectors(embedder, texts) * wanted).sum(axis=1)
    assert cosines.mean() >= 0.998 and cosines.min() >= 0.995, cosines


def test_an_unknown_pooling_is_named(tmp_path: Path) -> None:
    folder = make_bert(tmp_path / "checkpoint", pooling="last")
    with pytest.raises(ModelCorrupt, match="'last'"):
        export(str(folder), out=tmp_path / "out")


def test_a_model_without_known_hashes_is_its_own_identity(tmp_path: Path) -> None:
    spaces = set()
    for seed in (1, 2):
        folder = make_bert(tmp_path / str(seed), pooling="cls", seed=seed)
        assert not manifest.load(str(folder)).hashed
        told: list[str] = []
        out = export(str(folder), out=tmp_path / f"out{seed}", on_step=told.append)
        assert any("no hashes are known" in step for step in told)
        spaces.add(NativeRuntime.open(out, threads=1).lock.space(96).name)
    assert len(spaces) == 2


@pytest.mark.parametrize("name", ["bge-small-en", "multilingual-e5-small"])
def test_unverified_manifests_can_be_read(name: str) -> None:
    known = manifest.load(name)
    assert known.family == "bert" and not known.hashed and known.prompts["query"]
