"""`open({device: 'webgpu'})`: used where it gives right answers, left for WASM where not, and nothing is lost with it."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright

from conftest import CHROMIUM_ARGS
from insitu.embedder import Embedder
from insitu.model.export import export
from insitu.runtime.native import NativeRuntime
from make_checkpoint import make
from page.conftest import OPEN, Serve, caught, until, wait
from page.texts import SCRIPTS

# A GPU in software: slow, and the same on every machine.
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
EMBED = "async (texts) => (await insitu.embed(texts)).map((vector) => [...vector])"
# In the worker: the first device that is made is kept, to be lost when the test wants it.
KEEP_DEVICE = b"""
const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) { return (self.device = await request.apply(this, args)); };
const submit = GPUQueue.prototype.submit;
GPUQueue.prototype.submit = function (...args) {
    if (self.left !== undefined && self.left-- === 0) self.device.destroy();
    return submit.apply(this, args);
};
new BroadcastChannel('test').onmessage = ({ data }) => { self.left = data; };
"""
# In the worker: nothing that goes to the GPU or comes back is what it was.
SPOIL = b"""
const mapped = GPUBuffer.prototype.getMappedRange;
GPUBuffer.prototype.getMappedRange = function (...args) {
    const range = mapped.apply(this, args);
    new Uint8Array(range).fill(60, 0, range.byteLength >> 1);
    return range;
};
"""


@pytest.fixture(scope="module")
def gpu_browser(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium_path, args=[*CHROMIUM_ARGS, *SOFTWARE_GPU])
    yield browser
    browser.close()


@pytest.fixture
def gpu_page(gpu_browser: Browser) -> Iterator[Page]:
    context = gpu_browser.new_context()
    page = context.new_page()
    page.set_default_timeout(180_000)
    yield page
    context.close()


@pytest.fixture(scope="module")
def gemmas(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Any]]:
    """By variant the lock of a tiny model of EmbeddingGemma's architecture, all side by side, and its native runtime."""
    checkpoint = str(make(tmp_path_factory.mktemp("gemma")))
    moments: dict[str, Any] = {}
    found = {}
    for variant in ("int8", "q8", "q4"):
        model = export(checkpoint, variant, out=site / f"models/tiny-{variant}", moments=moments)
        found[variant] = (f"/models/tiny-{variant}/model.lock.json", with_canary(model))
    return found


@pytest.fixture(scope="module")
def gemma(gemmas: dict[str, tuple[str, Any]]) -> tuple[str, Any]:
    """In 4 bits."""
    return gemmas["q4"]


def with_canary(model: Path) -> Any:
    """The native runtime of a model, whose lock has its vectors of two texts as golden ones from now on."""
    runtime = NativeRuntime.open(model, threads=1)
    embedder = Embedder(runtime, runtime.lock)
    texts = ["The kettle is on the stove.", "where is the kettle"]
    ids = wait(embedder.token_ids(texts))
    vectors = native(runtime, texts).astype("<f2")
    canary = [{"ids": list(i), "embedding": b64encode(v.tobytes()).decode()} for i, v in zip(ids, vectors, strict=True)]
    (model / "model.lock.json").write_text(dataclasses.replace(runtime.lock, canary=tuple(canary)).to_json())
    return runtime


def native(runtime: Any, texts: list[str]) -> Any:
    found = wait(Embedder(runtime, runtime.lock).embed(texts)).block
    return np.frombuffer(found.vectors(), np.float32).reshape(found.count, found.dim)


def check(page: Page, runtime: Any) -> None:
    """The page gives the vectors of the native runtime."""
    texts = SCRIPTS[::3]  # a GPU in software takes seconds for a batch of a new shape
    assert (np.array(page.evaluate(EMBED, texts)) * native(runtime, texts)).sum(1).min() > 0.999


def open_on(page: Page, address: str, **options: Any) -> dict[str, Any]:
    page.goto(address + "empty.html")
    page.evaluate(OPEN, options)
    found: dict[str, Any] = page.evaluate("insitu.stats()")["device"]
    return found


def test_webgpu_gives_the_vectors_of_the_native_runtime(
    gpu_page: Page, serve_site: Serve, gemmas: dict[str, tuple[str, Any]]
) -> None:
    """Of q4, which is opened in the place of the int8 that is named: that has products which WebGPU does not know."""
    served = serve_site()
    device = open_on(gpu_page, served.address, model=gemmas["int8"][0], device="webgpu")
    variant = gpu_page.evaluate("insitu.stats()")["variant"]
    assert variant["used"] == "q4" and "WebGPU" in variant["reason"]
    assert (device["used"], device["engine"], device["reason"]) == ("webgpu", "onnxruntime", "")
    assert not any("/ort/" in path for path in served.asked), "the other build of the runtime is not loaded"
    check(gpu_page, gemmas["q4"][1])


def test_a_page_that_does_not_ask_loads_nothing_of_it(gpu_page: Page, serve_site: Serve, model_url: str) -> None:
    served = serve_site()
    assert open_on(gpu_page, served.address, model=model_url)["used"] == "wasm"
    assert not any("webgpu" in path for path in served.asked)


def test_a_lost_device_costs_no_text(gpu_page: Page, serve_site: Serve, site: Path, gemma: tuple[str, Any]) -> None:
    worker = KEEP_DEVICE + (site / "insitu/worker.js").read_bytes()
    served = serve_site(instead={"/insitu/worker.js": worker})
    assert open_on(gpu_page, served.address, model=gemma[0], device="webgpu")["used"] == "webgpu"
    gpu_page.evaluate("new BroadcastChannel('test').postMessage(3)")
    check(gpu_page, gemma[1])
    device = gpu_page.evaluate("insitu.stats()")["device"]
    assert device["used"] == "wasm" and device["reason"]
    until(gpu_page, "(await insitu.stats()).device.checked")


def test_a_device_that_does_not_give_the_golden_vectors_is_not_used(
    gpu_page: Page, serve_site: Serve, site: Path, gemma: tuple[str, Any]
) -> None:
    served = serve_site(instead={"/insitu/worker.js": SPOIL + (site / "insitu/worker.js").read_bytes()})
    device = open_on(gpu_page, served.address, model=gemma[0], device="webgpu")
    assert device["used"] == "wasm" and "golden" in device["reason"]
    check(gpu_page, gemma[1])
    until(gpu_page, "(await insitu.stats()).device.checked")


def test_without_golden_vectors_a_gpu_is_not_used(
    gpu_page: Page, serve_site: Serve, site: Path, gemma: tuple[str, Any]
) -> None:
    lock = json.loads((site / gemma[0].lstrip("/")).read_text()) | {"canary": []}
    served = serve_site(instead={gemma[0]: json.dumps(lock).encode()})
    device = open_on(gpu_page, served.address, model=gemma[0], device="webgpu")
    assert device["used"] == "wasm" and "golden" in device["reason"]
    check(gpu_page, gemma[1])


@pytest.mark.parametrize("variant", ["int8", "q8"])
def test_a_variant_that_is_asked_for_there_is_right_or_left(
    gpu_page: Page, serve_site: Serve, gemmas: dict[str, tuple[str, Any]], variant: str
) -> None:
    """WebGPU has no integer products and none of 8-bit blocks: whatever comes of that, vectors are those of the native runtime."""
    served = serve_site()
    device = open_on(gpu_page, served.address, model=gemmas["q4"][0], device="webgpu", variant=variant)
    assert gpu_page.evaluate("insitu.stats()")["variant"]["used"] == variant
    assert device["used"] == "wasm" or device["checked"]
    check(gpu_page, gemmas[variant][1])


def test_a_graph_that_webgpu_cannot_run_runs_on_wasm(gpu_page: Page, serve_site: Serve, model_url: str) -> None:
    """MiniLM's: its attention takes the lengths of the texts, which WebGPU's kernel does not."""
    device = open_on(gpu_page, serve_site().address, model=model_url, device="webgpu")
    assert device["used"] == "wasm" and "not implemented" in device["reason"]
    assert gpu_page.evaluate(EMBED, ["cats"])


def test_without_webgpu_the_model_runs_on_wasm_and_says_why(page: Page, serve_site: Serve, model_url: str) -> None:
    device = open_on(page, serve_site().address, model=model_url, device="webgpu")
    assert device["used"] == "wasm" and "WebGPU" in device["reason"]
    assert page.evaluate(EMBED, ["cats"])


def test_another_device_is_refused(page: Page, serve_site: Serve) -> None:
    page.goto(serve_site().address + "empty.html")
    assert caught(page, "(await import('/insitu/insitu.js')).open({ device: 'npu' })")[1] == "invalid-argument"
