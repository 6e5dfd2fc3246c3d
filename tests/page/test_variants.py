"""`open({variant})`: an int8 index asked by q4, and models that lie beside each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from conftest import watched
from insitu.model.export import export
from insitu.runtime.native import NativeRuntime
from insitu.site import build_index
from make_checkpoint import make
from page.conftest import caught, opened_on, wait
from page.folder import Served
from page.texts import PAGES

ANSWER = "async () => (await insitu.search('how do I keep a cat warm', { k: 3 })).map(({ score }) => score)"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, web_dist: Path) -> Iterator[Served]:
    """A site indexed with int8, which q4 may ask; and `models/`, with both."""
    folder = tmp_path_factory.mktemp("variants")
    checkpoint = str(make(folder / "checkpoint"))
    site = folder / "site"
    int8, q4 = (export(checkpoint, name, out=site / f"models/tiny-{name}") for name in ("int8", "q4"))
    for name in list(PAGES)[:3]:
        (site / name).write_text(PAGES[name], "utf-8")
    runtime = NativeRuntime.open(int8, index_dir=site / "insitu", threads=1)
    wait(build_index(site, site / "insitu", runtime, runtime.lock, model_dir=int8, asks=[q4]))
    # Indexed again, both models are still there.
    wait(build_index(site, site / "insitu", runtime, runtime.lock, model_dir=int8, asks=[q4]))
    entry = json.loads((site / "insitu/index.json").read_text())
    assert list(entry["asks"]) == ["q4"] and (site / "insitu" / entry["asks"]["q4"]).is_file()
    shutil.copytree(web_dist, site / "insitu", dirs_exist_ok=True)
    with Served(site).running() as running:
        yield running


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    with watched(browser, origins=(served.address,)) as opened:
        yield opened


def test_a_page_asks_with_the_smallest_variant_that_the_index_offers(page: Page, served: Served) -> None:
    usual = opened_on(page, served)
    assert usual["variant"] == {"used": "int8", "reason": ""}
    # Collections outlive what variant is opened: one made by int8 is asked by q4 too.
    page.evaluate("insitu.collection('both').then((both) => both.put([{ id: 'cat', text: 'a cat' }]))")
    own = page.evaluate(ANSWER)
    asking = opened_on(page, served, variant="auto")
    assert asking["variant"]["used"] == "q4" and "smallest" in asking["variant"]["reason"]
    assert asking["model"].endswith("-q4")
    asked = page.evaluate(ANSWER)
    assert len(asked) == len(own) == 3 and asked != own
    assert max(abs(one - other) for one, other in zip(asked, own, strict=True)) < 0.1
    found = page.evaluate("insitu.collection('both').then((both) => both.search('a cat'))")
    assert [hit["id"] for hit in found] == ["cat"]
    put = "(await insitu.collection('both')).put([{ id: 'dog', text: 'a dog' }])"
    assert caught(page, put)[1] == "space-mismatch"


def test_a_variant_that_is_not_there_is_refused_by_those_that_are(page: Page, served: Served) -> None:
    page.goto(served.address + "empty.html")
    act = "(await import('/insitu/insitu.js')).open({ variant: 'q8' })"
    _, code, message = caught(page, act)
    assert code == "variant-unsupported" and "int8, q4" in message


def test_models_beside_each_other_are_chosen_from_by_use(page: Page, served: Served) -> None:
    q4 = "/models/tiny-q4/model.lock.json"
    assert opened_on(page, served, model=q4)["variant"]["used"] == "q4"
    embeds = opened_on(page, served, model=q4, variant="auto")["variant"]
    assert embeds["used"] == "int8" and "WASM" in embeds["reason"]
    named = opened_on(page, served, model="/models/tiny-int8/model.lock.json", variant="q4")
    assert named["variant"] == {"used": "q4", "reason": ""}


def test_what_is_asked_to_run_on_webgpu_is_q4_unless_a_variant_is_named(page: Page, served: Served) -> None:
    """Whether the browser has WebGPU or not: who adds to a collection must find the same variant at each visit."""
    for options in ({}, {"model": "/models/tiny-int8/model.lock.json"}):
        found = opened_on(page, served, device="webgpu", **options)
        assert found["variant"] == {"used": "q4", "reason": "the one that WebGPU runs"}
        assert found["device"]["used"] == "wasm" and "WebGPU" in found["device"]["reason"]
        assert opened_on(page, served, device="webgpu", variant="int8", **options)["variant"]["used"] == "int8"
