"""Models published as ONNX files: the same vectors as from our own export, and files that are not right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from insitu.embedder import Embedder
from insitu.errors import FetchFailed, LicenceNotAccepted, ModelCorrupt, VariantUnsupported
from insitu.model import ensure, manifest
from insitu.model.export import export
from insitu.model.fetch import fetch
from insitu.model.lock import ModelLock
from insitu.model.published import wrap
from insitu.model.verify import golden_cases
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make
from make_published import FILES, NOTHING, make_bert_states, make_gemma, write_states
from page.conftest import wait

TEXTS = ["one", "He counted the lamps that he had lit.", "", "the keeper and lamp number 4", "word " * 90, "灯塔"]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma as published files; its checkpoint is in `checkpoint`."""
    folder = tmp_path_factory.mktemp("published")
    return make_gemma(folder, make(folder / "checkpoint"))


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def opened(folder: Path) -> Embedder:
    runtime = NativeRuntime.open(folder, threads=1)
    return Embedder(runtime, runtime.lock)


def vectors(embedder: Embedder, texts: list[str], dim: int = 96) -> Any:
    block = wait(embedder.embed(texts, task="none", dim=dim)).block
    return np.frombuffer(block.vectors(), "<f4").reshape(len(texts), dim)


@pytest.mark.parametrize("variant", sorted(FILES))
def test_vectors_are_those_of_our_own_export(published: Path, tmp_path: Path, variant: str) -> None:
    embedder = opened(export(str(published), variant, out=tmp_path / "out"))
    ours = opened(export(str(published / "checkpoint"), variant, out=tmp_path / "ours", moments=NOTHING))
    for dim in (96, 32):
        cosines = (vectors(embedder, TEXTS, dim) * vectors(ours, TEXTS, dim)).sum(axis=1)
        assert cosines.min() >= 0.9999, cosines
    alone = np.concatenate([vectors(embedder, [text]) for text in TEXTS])
    assert (alone * vectors(embedder, TEXTS)).sum(axis=1).min() >= 0.999999
    assert embedder.lock.space(96).name != ours.lock.space(96).name


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_graph_without_pooling_gets_the_one_of_the_manifest(tmp_path: Path, pooling: str) -> None:
    folder = make_bert_states(tmp_path / "published", pooling)
    embedder = opened(export(str(folder), "fp32", out=tmp_path / "out"))
    ours = opened(export(str(folder / "checkpoint"), out=tmp_path / "ours", moments=NOTHING))
    cosines = (vectors(embedder, TEXTS) * vectors(ours, TEXTS)).sum(axis=1)
    assert cosines.min() >= 0.9999, cosines


def test_codes_are_those_of_the_vector(published: Path, tmp_path: Path) -> None:
    embedder = opened(export(str(published), "fp32", out=tmp_path / "out"))
    data = wait(embedder.embed(["lamps"], task="none", dim=32)).block.codes()
    codes, scale = np.frombuffer(data[:32], np.int8), np.frombuffer(data[32:], "<f4")
    assert np.abs(codes).max() == 127
    assert np.abs(codes * scale - vectors(embedder, ["lamps"], 32)[0]).max() <= scale[0] / 2 + 1e-7


def test_weights_stay_in_their_file_which_is_linked(published: Path, tmp_path: Path) -> None:
    out = export(str(published), "q8", out=published.parent / "linked")
    lock = opened(out).lock
    assert [ref.file for ref in lock.data] == ["model_quantized.onnx_data"]
    assert (out / lock.data[0].file).samefile(published / "onnx/model_quantized.onnx_data")
    assert lock.graph.bytes < lock.data[0].bytes / 5
    assert (lock.rows, lock.row_blocks, lock.row_count) == (None, None, 1024)
    assert ModelLock.from_json(lock.to_json()) == lock


def test_a_lock_from_before_is_still_read(model_dir: Path) -> None:
    old = json.loads((model_dir / "model.lock.json").read_text())
    old.pop("data", None)
    lock = ModelLock.from_json(json.dumps(old))
    assert lock.data == () and lock.rows is not None


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_graphs_of_old_and_new_opsets_open(tmp_path: Path, opset: int, pooling: str) -> None:
    table = np.random.default_rng(1).normal(size=(1024, 96)).astype(np.float32)
    folder = make_bert_states(tmp_path / "published", pooling)
    write_states(folder / "onnx/model.onnx", table, opset=opset)
    embedder = opened(export(str(folder), "fp32", out=tmp_path / "out"))
    found = vectors(embedder, TEXTS)
    for text, ids in zip(found, wait(embedder.token_ids(TEXTS, task="none")), strict=True):
        states = table[list(ids)]
        wanted = states[0] if pooling == "cls" else states.mean(axis=0)
        assert np.allclose(text, wanted / np.linalg.norm(wanted), atol=1e-6)


def test_a_missing_or_cut_data_file_is_named(copy: Path, tmp_path: Path) -> None:
    data = copy / "onnx/model_q4.onnx_data"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(ModelCorrupt, match=r"model_q4\.onnx_data has .* bytes, but the graph reads"):
        export(str(copy), "q4", out=tmp_path / "out")
    data.unlink()
    with pytest.raises(ModelCorrupt, match=r"model_q4\.onnx_data is missing"):
        export(str(copy), "q4", out=tmp_path / "out")
    with pytest.raises(ModelCorrupt, match=r"model_q4\.onnx_data, which is not beside it"):
        wrap(copy / "onnx/model_q4.onnx", 96, "graph")
    assert not (tmp_path / "out").exists()


def test_an_exported_model_without_its_data_file_is_refused(copy: Path, tmp_path: Path) -> None:
    out = export(str(copy), "q4", out=tmp_path / "out")
    (out / "model_q4.onnx_data").unlink()
    with pytest.raises(ModelCorrupt, match=r"model_q4\.onnx_data is missing.*insitu models export"):
        NativeRuntime.open(out)


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/weights.bin", "a\\b", ".."])
def test_data_files_elsewhere_are_refused(copy: Path, place: str) -> None:
    path = copy / "onnx/model.onnx"
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
    next(entry for entry in tensor.external_data if entry.key == "location").value = place
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelCorrupt, match="no file beside it"):
        wrap(path, 96, "graph")


def test_wrong_outputs_inputs_sizes_and_opsets_are_named(published: Path, tmp_path: Path) -> None:
    table = np.zeros((9, 96), np.float32)
    path = tmp_path / "model.onnx"
    for options, told in (
        ({"output": "logits"}, "gives logits"),
        ({"ids": "pixels"}, "takes pixels, attention_mask"),
        ({"opset": 10}, "opset 10"),
    ):
        write_states(path, table, **{"opset": 17, **options})  # type: ignore[arg-type]
        with pytest.raises(ModelCorrupt, match=told):
            wrap(path, 96, "mean")
    write_states(path, table, opset=17)
    with pytest.raises(ModelCorrupt, match=r"b x t x 96, not batch x tokens x 384.*full_dim"):
        wrap(path, 384, "mean")
    with pytest.raises(ModelCorrupt, match=r"sentence_embedding.*'mean' or 'cls' in model\.json"):
        wrap(path, 96, "graph")
    with pytest.raises(ModelCorrupt, match="'last'"):
        wrap(path, 96, "last")
    with pytest.raises(ModelCorrupt, match="b x 96, not batch x 768"):
        wrap(published / "onnx/model.onnx", 768, "graph")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelCorrupt, match=r"model\.onnx is no ONNX file"):
        wrap(path, 96, "mean")


def test_a_size_that_the_graph_does_not_tell_is_found_out_when_it_runs(tmp_path: Path) -> None:
    folder = make_bert_states(tmp_path / "published", "mean")
    path = folder / "onnx/model.onnx"
    write_states(path, np.ones((1024, 48), np.float32), opset=17)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "size"
    onnx.save_model(model, path)
    embedder = opened(export(str(folder), "fp32", out=tmp_path / "out"))
    with pytest.raises(ModelCorrupt, match=r"vectors of 48, not 96.*full_dim"):
        vectors(embedder, ["lamps"], 32)


def test_an_id_that_the_model_lacks_is_named(published: Path, tmp_path: Path) -> None:
    out = export(str(published), "fp32", out=tmp_path / "out")
    lock = json.loads((out / "model.lock.json").read_text())
    (out / "model.lock.json").write_text(json.dumps({**lock, "row_count": 300}))
    with pytest.raises(ModelCorrupt, match="300 token rows"):
        vectors(opened(out), ["lamps"])


def test_fetch_brings_the_files_of_one_variant(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    monkeypatch.setenv("INSITU_ACCEPT_LICENSE", "1")
    name = "embeddinggemma-300m-onnx"
    for variant in (None, "q4"):
        fetched = fetch(name, variant, source=published)
    files = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    graphs = [f"onnx/{stem}.onnx{end}" for stem in ("model_quantized", "model_q4") for end in ("", "_data")]
    assert files == {"tokenizer.json", *graphs}
    with pytest.raises(FetchFailed, match=r"model\.onnx is not there"):
        fetch(name, "fp32", source=fetched)


def test_the_folder_is_a_model_of_its_own(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    folder = ensure(str(published), "q8")
    assert folder == tmp_path / "published-tiny-gemma-q8"
    written = (folder / "model.lock.json").stat().st_mtime_ns
    assert ensure(str(published), "q8") == folder
    assert (folder / "model.lock.json").stat().st_mtime_ns == written, "it was there and is not made again"


def test_the_manifest_of_the_published_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path))
    monkeypatch.delenv("INSITU_ACCEPT_LICENSE", raising=False)
    known, original = manifest.load("embeddinggemma-300m-onnx"), manifest.load("embeddinggemma-300m")
    assert (known.prompts, known.terms, known.dims) == (original.prompts, original.terms, original.dims)
    assert [known.of_variant(v).files[1].file for v in ("fp32", "q8", "q4")] == list(FILES.values())
    assert golden_cases(known, "golden.json")[0]["token_ids"] == golden_cases(original, "golden.json")[0]["token_ids"]
    with pytest.raises(VariantUnsupported, match="q8, q4, fp32"):
        known.of_variant("int8")
    with pytest.raises(LicenceNotAccepted, match=original.terms):
        export(known.name, "q8", source=tmp_path)
