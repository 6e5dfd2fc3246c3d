"""Published ONNX files in the page: ids go in, weights come from the data file, vectors are those of CPython."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from insitu.embedder import Embedder
from insitu.model.export import export
from insitu.runtime.native import NativeRuntime
from insitu.site import build_index
from make_checkpoint import make
from make_published import NOTHING, make_bert_states, make_gemma
from page.conftest import OPEN, caught, wait
from page.folder import Served
from page.texts import PAGES, SCRIPTS

TEXTS = [*SCRIPTS, "word " * 90, "one", ""]
EMBED = """async ([texts, options]) => (await insitu.embed(texts, options)).map((vector) => [...vector])"""
DATA = "model_quantized.onnx_data"


class Model(NamedTuple):
    """Indexed with the published files; our own export of the same weights is in `ours/`."""

    site: Path
    runtime: NativeRuntime


@pytest.fixture(scope="module", params=["gemma", "bert"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, web_dist: Path) -> Model:
    """A small site, indexed with published files: one with a data file that pools, one without that does not."""
    folder = tmp_path_factory.mktemp("published")
    if request.param == "gemma":
        source = make_gemma(folder / "published", make(folder / "published/checkpoint"), ("q8",))
        variants = "q8", "q8"
    else:
        source = make_bert_states(folder / "published", "mean")
        variants = "fp32", "int8"
    out = export(str(source), variants[0], out=folder / "out")
    runtime = NativeRuntime.open(out, threads=1)
    site = folder / "site"
    site.mkdir()
    for name, html in PAGES.items():
        (site / name).write_text(html, "utf-8")
    wait(build_index(site, site / "insitu", runtime, runtime.lock, model_dir=out))
    shutil.copytree(web_dist, site / "insitu", dirs_exist_ok=True)
    export(str(source / "checkpoint"), variants[1], out=site / "ours", moments=NOTHING)
    return Model(site, runtime)


@pytest.fixture
def served(model: Model) -> Iterator[Served]:
    with Served(model.site).running() as served:
        yield served


def test_vectors_are_those_of_our_own_export_and_of_the_native_runtime(
    page: Page, served: Served, model: Model
) -> None:
    def vectors(texts: list[str], dim: int = 96) -> Any:
        return np.array(page.evaluate(EMBED, [texts, {"task": "document", "dim": dim}]))

    page.goto(served.address + "empty.html")
    page.evaluate(OPEN, {"model": "/ours/model.lock.json"})
    ours = {dim: vectors(TEXTS, dim) for dim in (96, 32)}
    served.asked.clear()
    page.goto(served.address + "empty.html")
    page.evaluate(OPEN)
    for dim, wanted in ours.items():
        found = vectors(TEXTS, dim)
        assert (found * wanted).sum(1).min() >= 0.9999
        native = wait(Embedder(model.runtime, model.runtime.lock).embed(TEXTS, dim=dim)).block
        # The BERT here computes in int8, and a CPU without VNNI cuts sums off that WASM does not (DESIGN.md).
        least = 0.9999 if model.runtime.lock.data else 0.98
        assert (found * np.frombuffer(native.vectors(), "<f4").reshape(-1, dim)).sum(1).min() >= least
    alone = np.concatenate([vectors([text]) for text in TEXTS[-3:]])
    assert (alone * vectors(TEXTS)[-3:]).sum(1).min() >= 0.999999
    assert [hit["url"] for hit in page.evaluate("insitu.search('fix a puncture', {k: 1})")]
    stats = page.evaluate("insitu.stats()")
    assert stats["rows"]["reason"] == "the graph holds them"
    asked = {path.rpartition("/")[2] for path in served.asked}
    assert {DATA, "rows.q8.bin"} & asked == ({DATA} if model.runtime.lock.data else set())


def test_a_second_visit_takes_all_from_the_store(browser: Browser, served: Served, model: Model) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    for _ in range(2):
        served.asked.clear()
        page.goto(served.address + "empty.html")
        page.evaluate(OPEN)
        page.wait_for_function("insitu.stats().then((stats) => stats.settled)")
    large = [path for path in served.asked if path.endswith((".onnx", "_data", "vocabulary.bin", "tokenizer.json"))]
    assert large == []
    context.close()


def test_a_damaged_data_file_is_named(browser: Browser, model: Model) -> None:
    if not model.runtime.lock.data:
        pytest.skip("this model has no data file")
    [path] = model.site.rglob(DATA)
    where = "/" + path.relative_to(model.site).as_posix()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    for body, code in ((bytes(data), "model-corrupt"), (None, "fetch-failed")):
        faults: dict[str, Any] = {"missing": {where}} if body is None else {"instead": {where: body}}
        with Served(model.site, **faults).running() as served:
            context = browser.new_context()
            page = context.new_page()
            page.goto(served.address + "empty.html")
            found = caught(page, "(await import('/insitu/insitu.js')).open()")
            assert found[1] == code and DATA in found[2]
            context.close()
