"""EmbeddingGemma's architecture in the page, on the tiny checkpoint: ids, vectors and answers of the native runtime."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from conftest import watched
from insitu.embedder import Embedder
from insitu.index.search import Index
from insitu.model.export import export
from insitu.runtime.native import NativeRuntime
from insitu.site import build_index
from make_checkpoint import make
from page.conftest import opened_on, wait
from page.folder import Served
from page.texts import PAGES, SCRIPTS
from small_gemma import at_the_ceiling

TEXTS = [*SCRIPTS, "word " * 90, "one", "", "many words " * 300]
EMBED = """async ([texts, options]) => {
    const found = await insitu.embed(texts, options);
    return [found.map((vector) => [...vector]), found.truncated];
}"""


class Opened(NamedTuple):
    page: Page
    runtime: NativeRuntime
    site: Path
    served: Served


@pytest.fixture(scope="module", params=["int8", "q8", "q4", "finer"])
def gemma(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, browser: Browser, web_dist: Path
) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp("gemma")
    rows = 4 if request.param == "q4" else 8
    # One of each product beside others in integers.
    finer = ("layer.0.qkv", "layer.1.out", "layer.0.up", "layer.6.down") if request.param == "finer" else ()
    variant = "int8" if finer else request.param
    model = export(str(make(folder / "checkpoint")), variant, rows=rows, finer=finer, out=folder / "model")
    runtime = NativeRuntime.open(model, index_dir=folder / "site/insitu", threads=1)
    site = folder / "site"
    site.mkdir()
    for name, html in PAGES.items():
        (site / name).write_text(html, "utf-8")
    wait(build_index(site, site / "insitu", runtime, runtime.lock, model_dir=model))
    shutil.copytree(web_dist, site / "insitu", dirs_exist_ok=True)
    with Served(site).running() as served, watched(browser, silent=True) as page:
        opened_on(page, served)
        yield Opened(page, runtime, site, served)


@pytest.mark.parametrize("gemma", ["q4"], indirect=True)
def test_vectors_are_the_same_when_rows_of_4_bits_come_by_blocks(gemma: Opened, browser: Browser) -> None:
    with watched(browser, silent=True) as page:
        assert opened_on(page, gemma.served, rows="stream")["rows"]["mode"] == "stream"
        asked = len(gemma.served.parts)
        streamed = page.evaluate(EMBED, [TEXTS, {"task": "query", "dim": 96}])
        assert streamed == gemma.page.evaluate(EMBED, [TEXTS, {"task": "query", "dim": 96}])
        assert len(gemma.served.parts) > asked, "the rows came while the texts were embedded"


@pytest.mark.parametrize("task", ["query", "document", "clustering", "none"])
def test_vectors_are_those_of_the_native_runtime(gemma: Opened, task: str) -> None:
    vectors, truncated = gemma.page.evaluate(EMBED, [TEXTS, {"task": task, "dim": 96}])
    found = wait(Embedder(gemma.runtime, gemma.runtime.lock).embed(TEXTS, task=task, dim=96))
    wanted: Any = np.frombuffer(found.block.vectors(), np.float32).reshape(len(TEXTS), 96)
    cosines = (np.array(vectors) * wanted).sum(1)
    assert cosines.min() >= 0.999, cosines
    assert truncated == list(found.truncated)


def test_answers_are_those_of_the_native_runtime(gemma: Opened) -> None:
    manifest = (gemma.site / "insitu/index.json").read_bytes()
    index = wait(Index.open(gemma.runtime, gemma.runtime.lock, manifest))
    for query in ("how do I fix a puncture", "which planets can I see at night", "灯塔"):
        found = gemma.page.evaluate("query => insitu.search(query, {k: 10})", query)
        wanted = wait(index.search(query, 10))
        assert len({hit["url"] for hit in found} & {hit.url for hit in wanted}) >= 9


def test_a_text_longer_than_the_model_reads_is_cut_and_said_to_be(gemma: Opened) -> None:
    embedder = Embedder(gemma.runtime, gemma.runtime.lock)
    shorter, whole, longer = at_the_ceiling(embedder)
    texts = [longer, whole, shorter, longer + " b" * 50_000]
    found, truncated = gemma.page.evaluate(EMBED, [texts, {"task": "none", "dim": 96}])
    assert truncated == [True, False, False, True]
    assert found[0] == found[1] == found[3] != found[2], "a vector has the same bits beside whatever texts"
    wanted = np.frombuffer(wait(embedder.embed([whole], task="none", dim=96)).block.vectors(), np.float32)
    assert np.array(found[0]) @ wanted >= 0.999
