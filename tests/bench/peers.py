"""Vector stores for the browser beside a collection: the same vectors, the same Chromium, each on a page of its own.

Peers are given vectors and asked with vectors. A collection is given the vectors in an export and asked with the text
of the question; what it needs beside embedding that text is its time.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page, Playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import Site, new_page
from corpus import sentences
from insitu.model.exported import read_lock
from many_documents import write_export
from processes import held, of_kind
from scan import DIM, FEW, QUERIES, K, Vectors, best, recall

HERE = Path(__file__).resolve().parent / "peers"
NAMES = ("orama", "hnswlib", "edgevec", "client-vector-search")
PACKAGES = {"orama": "@orama/orama", "hnswlib": "hnswlib-wasm"}
# Milliseconds after which a slow peer is asked no more.
PATIENCE = 20_000
# Seconds after which a page's memory is taken as it is, settled or not.
SETTLING_S = 20


@dataclass(frozen=True)
class Measured:
    """`build`, `store` and the `times` of single queries in milliseconds, `memory` and `stored` in bytes."""

    name: str
    build: float
    times: list[float]
    recall: float
    memory: float
    stored: float
    store: float


def prepare(out: Path) -> Path:
    """The peers, installed if they are not yet, and one script of them all."""
    modules = HERE / "node_modules"
    if not (modules / ".package-lock.json").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    out.mkdir(parents=True, exist_ok=True)
    esbuild = HERE.parents[2] / "node_modules/.bin/esbuild"
    options = ["--bundle", "--format=esm", "--log-level=error", "--external:@xenova/transformers"]
    subprocess.run([str(esbuild), str(HERE / "peers.js"), *options, f"--outfile={out / 'peers.js'}"], check=True)
    shutil.copy(modules / "edgevec/edgevec_bg.wasm", out)
    return out


def versions() -> dict[str, str]:
    return {
        name: json.loads((HERE / "node_modules" / PACKAGES.get(name, name) / "package.json").read_text())["version"]
        for name in NAMES
    }


def measure(
    playwright: Playwright,
    vectors: Vectors,
    out: Path,
    web: Path,
    model_dir: Path,
    show: Callable[[str], None],
) -> tuple[list[Measured], dict[str, str]]:
    """All of them, one after another, and why those that gave no figures gave none."""
    prepare(out)
    questions, texts = slice(0, FEW), slice(QUERIES, None)
    (out / "queries.f32").write_bytes(vectors.floats[questions].astype("<f4").tobytes())
    (out / "vectors.f32").write_bytes(vectors.floats[texts].astype("<f4").tobytes())
    export(out / "peers.insitu", vectors, read_lock(model_dir).space(DIM).name)
    wanted = best(vectors.floats[questions] @ vectors.floats[texts].T)
    asked = sentences(len(vectors.floats))[0][:FEW]
    measured, failed = [], {}
    site = Site({"peers": out, "ours": web, "model": model_dir})
    try:
        for name in ("insitu", *NAMES):
            show(name)
            with new_page(playwright, f"{site.base}/blank.html") as page:
                try:
                    measured.append(_insitu(page, asked, wanted) if name == "insitu" else _peer(page, name, wanted))
                except Exception as error:  # whatever a peer throws: the others are measured all the same
                    failed[name] = str(error).splitlines()[0]
    finally:
        site.close()
    return measured, failed


def _peer(page: Page, name: str, wanted: npt.NDArray[np.int64]) -> Measured:
    page.add_script_tag(url="/peers/peers.js", type="module")
    page.wait_for_function("globalThis.bench !== undefined")
    before = resident(page)
    built = page.evaluate("([name, dim]) => bench.build(name, '/peers/vectors.f32', dim)", [name, DIM])
    memory = resident(page) - before
    options = ["/peers/queries.f32", DIM, K, 3, PATIENCE]
    asked = page.evaluate("(options) => bench.ask(...options)", options)
    found = [[-1 if at is None else at for at in row] for row in asked["found"]]
    share = recall(found, wanted[: len(found)].tolist())
    stored = page.evaluate("bench.store()")
    return Measured(name, built, asked["times"], share, memory, stored["bytes"], stored["took"])


def resident(page: Page) -> int:
    """Bytes of the page's process that lie in memory, what WASM holds included, once garbage has been given back."""
    assert page.context.browser is not None
    sizes = [0]
    for _ in range(SETTLING_S):
        page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(1000)
        sizes.append(max(held(process, "VmRSS") for process in of_kind(page.context.browser, "renderer")))
        if len(sizes) > 3 and max(sizes[-3:]) - min(sizes[-3:]) < 1 << 20:
            break
    return sizes[-1]


OPEN = """async (questions) => {
    window.insitu = await (await import('/ours/insitu.js')).open({base: '/ours/', model: '/model/model.lock.json'});
    await insitu.embed(questions, {task: 'query', dim: 128});
}"""
BUILD = """async () => {
    const file = await (await fetch('/peers/peers.insitu')).blob();
    const start = performance.now();
    window.held = await insitu.import('peers', file);
    return performance.now() - start;
}"""
ASK = """async ([questions, k]) => {
    for (const question of questions.slice(0, 3)) await held.search(question, {k});
    const [whole, embedding, found] = [[], [], []];
    for (const question of questions) {
        let start = performance.now();
        await insitu.embed([question], {task: 'query', dim: 128});
        embedding.push(performance.now() - start);
        start = performance.now();
        const hits = await held.search(question, {k});
        whole.push(performance.now() - start);
        found.push(hits.map(({id}) => Number(id)));
    }
    return {whole, embedding, found, stored: (await navigator.storage.estimate()).usageDetails?.indexedDB ?? 0};
}"""


def _insitu(page: Page, asked: list[str], wanted: npt.NDArray[np.int64]) -> Measured:
    page.evaluate(OPEN, asked[:3])
    before = resident(page)
    built = page.evaluate(BUILD)
    memory = resident(page) - before
    done = page.evaluate(ASK, [asked, K])
    share = recall(done["found"], wanted.tolist())
    # One question after another varies more than the search itself: only the medians can be subtracted.
    took = statistics.median(done["whole"]) - statistics.median(done["embedding"])
    return Measured("insitu", built, [took], share, memory, done["stored"], 0)


def export(path: Path, vectors: Vectors, space: str) -> None:
    """The texts' vectors as a collection: a document each, whose id is its position."""
    texts = slice(QUERIES, None)
    write_export(
        path, space, vectors.codes[texts], vectors.scales[texts], {}, lambda n: {"id": str(n), "text": f"text {n}"}
    )
