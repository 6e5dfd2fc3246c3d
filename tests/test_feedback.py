"""Rounding with error feedback, and the graph that is run while it is built."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from insitu.model import bert, gemma
from insitu.model.blocks import quantise_blocks
from insitu.model.calibrate import moments_of
from insitu.model.eager import Eager
from insitu.model.export import export
from insitu.model.feedback import round_weights
from insitu.model.graph import Array
from insitu.model.variants import plain
from insitu.model.weights import Weights
from make_checkpoint import BERT, make, make_bert

DATA = Path(__file__).parent / "data"


class Kept(Eager):
    """Keeps the vectors."""

    vectors: Array

    def output(self, source: str, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        if name == "embedding":
            self.vectors = self.value(source)


def eager(ids: list[int], table: Array, size: int) -> Kept:
    inputs = {"rows": table[ids][None], "row_scales": np.ones((1, len(ids), 1)), "dim": np.array([size])}
    return Kept({**inputs, "lengths": np.array([len(ids)], np.int32)})


@pytest.mark.parametrize("family", ["gemma", "bert"])
def test_what_is_seen_is_what_transformers_computes(family: str, tmp_path: Path) -> None:
    folder = make(tmp_path) if family == "gemma" else make_bert(tmp_path, pooling="mean")
    weights = Weights(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    golden = json.loads((DATA / f"tiny-{family}/golden.json").read_text(encoding="utf-8"))
    for case in golden["cases"]:
        if family == "gemma":
            graph = eager(case["token_ids"], weights[gemma.TABLE] * np.float32(gemma.row_factor(config)), 96)
            down, up = (Weights(folder / f"{part}_Dense/model.safetensors")["linear.weight"] for part in "23")
            gemma.build(weights, config, up @ down, plain, 32, graph)
        else:
            graph = eager(case["token_ids"], weights[bert.TABLE], BERT["hidden_size"])
            bert.build(weights, config, None, {}, 128, "mean", graph, plain, 32)
        wanted = np.frombuffer(base64.b64decode(case.get("embedding") or case["mean"]), "<f4")
        assert graph.vectors[0] @ wanted > 0.99999, case["name"]


def uneven(tokens: int, channels: int) -> tuple[Array, Array]:
    """States whose channels hang together, and weights that read them."""
    random = np.random.RandomState(1)
    states = random.standard_normal((tokens, 12)) @ random.standard_normal((12, channels))
    states += 0.3 * random.standard_normal(states.shape)
    return states, random.standard_normal((channels, 40)).astype(np.float32)


@pytest.mark.parametrize(("bits", "gain"), [(4, 1.8), (8, 1.8)])
def test_products_come_closer_than_by_rounding_to_the_nearest(bits: int, gain: float) -> None:
    states, weight = uneven(2000, 100)  # no whole number of blocks
    fresh, _ = states[1000:], states[:1000]
    zero = 1 << (bits - 1)

    def lost(moments: Array | None) -> float:
        codes, scales = quantise_blocks(weight, bits, moments)
        assert codes.shape == (40, 128) and scales.shape == (40, 4)
        found = ((codes.astype(float) - zero) * np.repeat(scales, 32, axis=1)).T[:100]
        return float(np.square(fresh @ (found - weight)).mean())

    assert lost(states[:1000].T @ states[:1000]) * gain < lost(None)


def test_without_moments_each_weight_has_the_nearest_code() -> None:
    _, weight = uneven(10, 96)
    scale = np.float64(np.float32(0.02))
    codes, scales = round_weights(weight, None, lambda part, counts: np.full(40, scale), -127, 127, per_block=False)
    assert np.array_equal(codes, np.clip(np.rint(weight / scale), -127, 127)) and scales.shape == (1, 40)


def test_a_weight_of_zeros_stays_one() -> None:
    codes, scales = quantise_blocks(np.zeros((64, 8), np.float32), 4, np.eye(64))
    assert (codes == 8).all() and not scales.any()


def test_padding_is_no_text_and_special_tokens_are_where_they_belong() -> None:
    asked: list[list[int]] = []

    def rows(ids: Array) -> Array:
        asked.append([int(token) for token in ids])
        return np.ones((len(ids), 4), np.float32)

    moments_of(lambda graph, linear: None, rows, 50, (48,), (49,), lambda done, all: None)  # type: ignore[arg-type]
    for ids in asked:
        texts = np.array(ids).reshape(13, -1)
        assert (texts[:, 0] == 48).all() and (texts[:, -1] == 49).all()
    assert min(map(len, asked)) == 13 * 3 and max(map(len, asked)) == 13 * 128


def test_an_export_is_the_same_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in another order, as another machine makes them, must not move a code."""
    checkpoint = make(tmp_path / "checkpoint")
    plainly = np.linalg.inv
    found = []
    for factor in (1.0, 3.0):
        # Exactly the same in real numbers, and other roundings.
        monkeypatch.setattr(np.linalg, "inv", lambda matrix, by=factor: plainly(matrix * by) * by)
        out = export(str(checkpoint), "q4", out=tmp_path / str(factor))
        found.append(hashlib.sha256((out / "transformer.q4.onnx").read_bytes()).hexdigest())
    assert found[0] == found[1]
