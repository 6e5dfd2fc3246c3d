"""Named matrix products with finer weights: in blocks of 32, 8 bits, beside products in the variant's own way."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from insitu.embedder import Embedder
from insitu.errors import VariantUnsupported
from insitu.model import ensure, gemma, manifest
from insitu.model.export import export
from insitu.model.exported import read_lock
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make
from page.conftest import wait
from test_cli import insitu

TEXTS = ["the keeper of the lamp", "tulips", "a text about nothing in particular, " * 9]
# Given to exports, they round to the nearest and learn nothing first.
ONE: dict[str, Any] = {"none": 1}
DEAR = ("layer.0.down", "layer.6.qkv")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny") / "gemma")


@pytest.fixture(scope="module")
def finer(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(str(checkpoint), "int8", finer=DEAR, out=tmp_path_factory.mktemp("finer") / "model", moments=ONE)


def vectors(folder: Path) -> Any:
    runtime = NativeRuntime.open(folder, threads=1)
    block = wait(Embedder(runtime, runtime.lock).embed(TEXTS, task="none", dim=96)).block
    return np.frombuffer(block.vectors(), "<f4").reshape(len(TEXTS), -1)


def operators(folder: Path, op: str) -> set[str]:
    graph = onnx.load(folder / "transformer.int8.onnx").graph
    return {node.input[1].removesuffix(".weight") for node in graph.node if node.op_type == op}


def test_the_named_products_are_in_blocks_and_the_others_as_the_variant_has_them(checkpoint: Path, finer: Path) -> None:
    products = set(gemma.products(json.loads((checkpoint / "config.json").read_text("utf-8"))))
    assert len(products) == 28
    assert operators(finer, "MatMulNBits") == {*DEAR}
    assert operators(finer, "MatMulIntegerToFloat") == products - {*DEAR}


def test_vectors_come_nearer_when_products_are_finer(checkpoint: Path, tmp_path: Path) -> None:
    exact = vectors(export(str(checkpoint), "fp32", out=tmp_path / "exact"))
    products = gemma.products(json.loads((checkpoint / "config.json").read_text("utf-8")))
    losses = []
    for chosen in ([], products):
        out = tmp_path / str(len(chosen))
        found = vectors(export(str(checkpoint), "int8", finer=chosen, out=out, moments=ONE))
        losses.append(1 - float((found * exact).sum(axis=1).mean()))
    assert losses[0] > 1.5 * losses[1], losses


def test_vectors_of_finer_products_are_of_another_space(checkpoint: Path, finer: Path) -> None:
    known, lock = manifest.load(str(checkpoint)), read_lock(finer)
    assert lock.finer == DEAR and lock.weights == known.identity(8, reversed(DEAR)) != known.identity()


def test_an_export_with_finer_products_is_not_made_again(
    checkpoint: Path, finer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    shutil.copytree(finer, tmp_path / "tiny-gemma-int8")
    ensure(str(checkpoint), "int8")
    assert read_lock(tmp_path / "tiny-gemma-int8") == read_lock(finer)


def test_the_dearest_products_of_a_report_are_made_finer(tmp_path: Path) -> None:
    folder = make(tmp_path / "gemma", num_hidden_layers=1, layer_types=["full_attention"])
    none = base64.b64encode(bytes(2 * 96)).decode()
    cases: list[dict[str, Any]] = [
        {"name": text, "text": text, "token_ids": [], "embedding": none} for text in ("lamps", "a keeper")
    ]
    (folder / "golden.json").write_text(json.dumps({"cases": cases}), "utf-8")
    done = insitu("models", "export", folder, "--finer", 2, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = [line.split("\u2502")[1:-1] for line in done.stdout.splitlines() if "layer." in line]
    assert len(told) == 4 and float(told[-1][-1]) < 1e-6, done.stdout
    assert {*read_lock(tmp_path / "out").finer} == {row[0].strip() for row in told[:2]}
    done = insitu("models", "export", folder, "--finer", "layer.0.up,layer.1.up", "--out", tmp_path / "named")
    assert done.returncode == 1 and "no product layer.1.up: it has layer.0.qkv" in done.stderr.replace("\n", " ")


def test_what_cannot_be_finer_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(VariantUnsupported, match=r"layer\.7\.up: it has layer\.0\.qkv"):
        export(str(checkpoint), "int8", finer=["layer.0.up", "layer.7.up"], out=tmp_path / "out")
    for name, variant in ((str(checkpoint), "q8"), (str(checkpoint), "fp32"), ("minilm-l6", "int8")):
        with pytest.raises(VariantUnsupported, match="finer products"):
            export(name, variant, finer=["layer.0.up"], out=tmp_path / "out")
