"""EmbeddingGemma's architecture, on random weights: the graph against transformers, and bad checkpoints."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from insitu.embedder import Embedder
from insitu.errors import LicenceNotAccepted, ModelCorrupt, NotANumber, VariantUnsupported
from insitu.model import ensure, manifest
from insitu.model.export import export
from insitu.model.fetch import fetch
from insitu.model.report import report
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make
from make_published import make_gemma
from page.conftest import wait
from small_gemma import at_the_ceiling

GOLDEN = json.loads((Path(__file__).parent / "data/tiny-gemma/golden.json").read_text(encoding="utf-8"))
# The least cosine to float32 on the tiny random checkpoint, (mean, worst). Random weights are harder than trained ones:
# nothing repeats, and rounding errors do not cancel over 96 channels as they do over 768.
LEAST = {
    "fp32": (0.99999, 0.99999),
    "q8": (0.9998, 0.9995),
    "int8": (0.99965, 0.9993),  # to the nearest: 0.99964, 0.99928
    "q4": (0.98, 0.96),  # to the nearest: 0.970, 0.956
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny") / "gemma")


def opened(checkpoint: Path, variant: str, out: Path) -> Embedder:
    runtime = NativeRuntime.open(export(str(checkpoint), variant, out=out), threads=1)
    return Embedder(runtime, runtime.lock)


@pytest.fixture(scope="session", params=sorted(LEAST))
def embedder(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return opened(checkpoint, request.param, tmp_path_factory.mktemp("out") / request.param)


def vectors(embedder: Embedder, texts: list[str], **options: Any) -> np.ndarray:
    found = wait(embedder.embed(texts, **{"task": "none", "dim": 96, **options}))
    return np.frombuffer(found.block.vectors(), "<f4").reshape(len(texts), -1)


def golden_vectors() -> np.ndarray:
    return np.array([np.frombuffer(base64.b64decode(case["embedding"]), "<f4") for case in GOLDEN["cases"]])


def test_the_checkpoint_is_the_one_that_the_golden_file_was_made_from(checkpoint: Path) -> None:
    found = {ref.file: ref.sha256 for ref in manifest.load(str(checkpoint)).files}
    assert found["model.safetensors"] == GOLDEN["model_safetensors_sha256"]


def test_ids_and_vectors_are_those_of_transformers(embedder: Embedder) -> None:
    texts = [case["text"] for case in GOLDEN["cases"]]
    ids = wait(embedder.token_ids(texts, task="none"))
    assert [list(found) for found in ids] == [case["token_ids"] for case in GOLDEN["cases"]]
    assert max(map(len, ids)) > 20 * 17, "a text should be far longer than the window"
    mean, least = LEAST[embedder.lock.variant]
    alone = np.concatenate([vectors(embedder, [text]) for text in texts])
    cosines = (alone * golden_vectors()).sum(axis=1)
    assert cosines.mean() >= mean and cosines.min() >= least, cosines


def test_a_vector_does_not_depend_on_the_texts_beside_it(embedder: Embedder) -> None:
    texts = [case["text"] for case in GOLDEN["cases"]] + [f"the keeper and lamp number {number}" for number in range(9)]
    together = vectors(embedder, texts)
    alone = np.concatenate([vectors(embedder, [text]) for text in texts])
    assert (together * alone).sum(axis=1).min() >= 0.999999


def test_a_smaller_dim_is_the_start_of_the_full_vector(embedder: Embedder) -> None:
    full, short = (vectors(embedder, ["a few words"], dim=dim)[0] for dim in (96, 32))
    assert np.allclose(short, full[:32] / np.linalg.norm(full[:32]), atol=1e-6)


def test_a_document_has_its_title_in_the_prompt(embedder: Embedder) -> None:
    titled = vectors(embedder, ["lamps"], task="document", titles=["The keeper"])
    assert np.array_equal(titled, vectors(embedder, ["title: The keeper | text: lamps"]))
    untitled = vectors(embedder, ["lamps"], task="document")
    assert np.array_equal(untitled, vectors(embedder, ["title: none | text: lamps"]))


@pytest.mark.parametrize("embedder", ["int8"], indirect=True)
def test_a_text_beyond_the_ceiling_has_the_vector_of_what_is_left_of_it(embedder: Embedder) -> None:
    shorter, whole, longer = at_the_ceiling(embedder)
    found = wait(embedder.embed([longer, whole, shorter], task="none"))
    assert found.truncated == (True, False, False) and found.tokens == (2047, 2047, 2046)
    cut, same, other = np.frombuffer(found.block.vectors(), "<f4").reshape(3, -1)
    assert np.array_equal(cut, same) and not np.array_equal(cut, other)


def changed(checkpoint: Path, target: Path, tensors: dict[str, Any] | None = None, **config: Any) -> Path:
    """A copy of the checkpoint with other tensors and another configuration, and a manifest that fits it."""
    from make_checkpoint import manifest as manifest_of

    make(target, **config)
    if tensors is not None:
        save_file(tensors, target / "model.safetensors")
        (target / "model.json").write_text(json.dumps(manifest_of(target, 96)), encoding="utf-8")
    return target


def test_float16_weights_are_widened(checkpoint: Path, tmp_path: Path) -> None:
    halves = {name: tensor.astype(np.float16) for name, tensor in load_file(checkpoint / "model.safetensors").items()}
    embedder = opened(changed(checkpoint, tmp_path / "half", halves), "fp32", tmp_path / "out")
    texts = [case["text"] for case in GOLDEN["cases"]]
    cosines = (vectors(embedder, texts) * golden_vectors()).sum(axis=1)
    assert cosines.min() > 0.9999


def test_a_model_that_gives_no_numbers_is_a_named_error(checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["norm.weight"] = np.full(96, np.nan, np.float32)
    embedder = opened(changed(checkpoint, tmp_path / "nan", tensors), "int8", tmp_path / "out")
    with pytest.raises(NotANumber, match="no numbers on the CPU"):
        vectors(embedder, ["a few words"])


def test_a_table_shorter_than_the_vocabulary_gives_vectors_of_what_it_has(checkpoint: Path, tmp_path: Path) -> None:
    embedder = opened(changed(checkpoint, tmp_path / "short", vocab_size=600), "int8", tmp_path / "out")
    (known,), (beyond,) = (wait(embedder.token_ids([text], task="none")) for text in ("a", "the keeper of lamps"))
    assert max(known) < 600 <= max(beyond)
    assert np.isfinite(vectors(embedder, ["a"])).all()
    with pytest.raises(ModelCorrupt, match=f"the id {max(beyond)}, but the model has 600 token rows"):
        vectors(embedder, ["the keeper of lamps"])


def _without(tensors: dict[str, Any]) -> None:
    del tensors["layers.3.mlp.up_proj.weight"]


def _misshapen(tensors: dict[str, Any]) -> None:
    tensors["layers.3.self_attn.q_norm.weight"] = np.zeros(33, np.float32)


def _integers(tensors: dict[str, Any]) -> None:
    tensors["norm.weight"] = np.zeros(96, np.int32)


@pytest.mark.parametrize(
    ("damage", "told"),
    [(_without, "layers.3.mlp.up_proj"), (_misshapen, "q_norm"), (_integers, "norm.weight holds int32")],
)
def test_missing_or_wrong_tensors_are_named(checkpoint: Path, tmp_path: Path, damage: Any, told: str) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    damage(tensors)
    with pytest.raises(ModelCorrupt, match=told):
        export(str(changed(checkpoint, tmp_path / "bad", tensors)), "int8", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ({"use_bidirectional_attention": False}, "generates text|use_bidirectional_attention"),
        ({"num_key_value_heads": 3}, "key/value heads"),
    ],
)
def test_another_gemma_is_refused(checkpoint: Path, tmp_path: Path, config: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelCorrupt, match=told):
        export(str(changed(checkpoint, tmp_path / "other", **config)), "int8", out=tmp_path / "out")


def test_a_checkpoint_that_is_cut_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelCorrupt, match="cut or another file"):
        export(str(folder), "int8", out=tmp_path / "out")
    known = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    known["files"] = [{"file": file["file"]} for file in known["files"]]
    (folder / "model.json").write_text(json.dumps(known), encoding="utf-8")
    with pytest.raises(ModelCorrupt, match="no safetensors file, or it is cut"):  # where no hash is known of it
        export(str(folder), "int8", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_report_tells_what_each_product_costs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    texts = ["lighthouse", "He counted the lamps that he had lit."]
    told: list[tuple[int, int]] = []
    losses = report(str(checkpoint), "q4", texts=texts, on_progress=lambda *step: told.append(step))
    assert sorted(loss.product for loss in losses) == sorted(
        f"layer.{layer}.{product}" for layer in range(7) for product in ("qkv", "out", "up", "down")
    )
    assert [loss.mean for loss in losses] == sorted((loss.mean for loss in losses), reverse=True)
    assert all(0 < loss.mean <= loss.worst < 0.1 for loss in losses)
    assert told == [(done, 28) for done in range(1, 29)]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_model_without_such_a_report_is_named() -> None:
    with pytest.raises(VariantUnsupported, match="minilm-l6"):
        report("minilm-l6", "int8")


def test_a_folder_is_a_model(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    folder = ensure(str(checkpoint), "q4")
    assert folder == tmp_path / "tiny-gemma-q4"
    written = (folder / "model.lock.json").stat().st_mtime_ns
    assert ensure(str(checkpoint), "q4") == folder
    assert (folder / "model.lock.json").stat().st_mtime_ns == written, "it was there and is not made again"


def test_terms_are_accepted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    monkeypatch.delenv("INSITU_ACCEPT_LICENSE", raising=False)
    known = manifest.load("embeddinggemma-300m")
    with pytest.raises(LicenceNotAccepted, match=known.terms):
        fetch(known.name)
    with pytest.raises(LicenceNotAccepted, match=known.terms):
        export(known.name, "int8", source=tmp_path)
    for _ in range(2):  # the second time without saying so again
        with pytest.raises(ModelCorrupt, match=r"model\.safetensors is missing"):
            export(known.name, "int8", source=tmp_path, accept_licence=_ == 0)


def like(checkpoint: Path, target: Path, files: list[str], **entries: Any) -> Path:
    """The checkpoint with a `model.json` that says where it differs from EmbeddingGemma's, without hashes."""
    shutil.copytree(checkpoint, target)
    found = {"format": "insitu-manifest", "version": 1, "like": "embeddinggemma-300m", "name": target.name}
    found |= {"terms": "", "full_dim": 96, "dims": [96], "default_dim": 96, "config": None}
    found |= {"files": [{"file": name} for name in [*files, "tokenizer.json", "config.json"]]} | entries
    (target / "model.json").write_text(json.dumps(found), encoding="utf-8")
    return target


def test_a_retrained_checkpoint_without_known_hashes_is_exported_by_the_same_command(
    checkpoint: Path, tmp_path: Path
) -> None:
    files = ["model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"]
    retrained = opened(like(checkpoint, tmp_path / "qat", files), "q4", tmp_path / "out")
    original = opened(checkpoint, "q4", tmp_path / "original")
    texts = [case["text"] for case in GOLDEN["cases"]]
    assert np.array_equal(vectors(retrained, texts), vectors(original, texts))
    assert retrained.lock.prompts == manifest.load("embeddinggemma-300m").prompts


def test_a_gemma_without_dense_layers_gives_the_mean_of_its_states(checkpoint: Path, tmp_path: Path) -> None:
    """Two ways to it: our own export, and the states that a published graph gives."""
    bare = opened(like(checkpoint, tmp_path / "bare", ["model.safetensors"]), "fp32", tmp_path / "out")
    states = make_gemma(tmp_path / "published", checkpoint, ("fp32",))
    changed = json.loads((states / "model.json").read_text(encoding="utf-8")) | {"pooling": "mean"}
    (states / "model.json").write_text(json.dumps(changed), encoding="utf-8")
    wanted = opened(states, "fp32", tmp_path / "wanted")
    texts = [case["text"] for case in GOLDEN["cases"]]
    assert (vectors(bare, texts) * vectors(wanted, texts)).sum(axis=1).min() > 0.99999
    assert (vectors(bare, texts) * golden_vectors()).sum(axis=1).max() < 0.9, "the dense layers are left out"


@pytest.mark.parametrize(
    ("name", "terms"),
    [("embeddinggemma-2", False), ("embeddinggemma-300m-qat-q4", True), ("embeddinggemma-300m-qat-q8", True)],
)
def test_unverified_manifests_say_only_where_they_differ(name: str, terms: bool) -> None:
    known, original = manifest.load(name), manifest.load("embeddinggemma-300m")
    assert known.name == name and not known.hashed
    assert known.prompts == original.prompts and bool(known.terms) is terms
    assert any("_Dense" in ref.file for ref in known.files) is terms
    assert known.sources[0].repo in known.home


def test_a_manifest_like_an_unknown_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"like": "nobody"}')
    with pytest.raises(ModelCorrupt, match="nobody"):
        manifest.load(str(tmp_path))


@pytest.mark.slow
def test_an_export_of_full_size_takes_less_than_4_gb(tmp_path: Path) -> None:
    """In float32, which takes the most. The mapped pages of the checkpoint, 1.2 GB, are counted too."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "insitu", "models", "export", str(make(tmp_path / "full", full=True))]
    try:
        with subprocess.Popen([*command, "--variant", "fp32", "--out", str(out)], stderr=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        assert (out / "rows.fp32.bin").stat().st_size > 800_000_000
        assert usage.ru_maxrss * 1024 < 4e9
    finally:
        shutil.rmtree(tmp_path)  # 2.4 GB, which pytest would keep
