"""Vector stores for the browser beside a collection: the same vectors, the same Chromium, each on a page of its own.

Peers are given vectors and asked with vectors. A collection is given the vectors in an export and asked with the text
of the question; what it needs beside embedding that text is its time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page, Playwright
from playwright.sync_api import TimeoutError as PageTimeout

import disk
import scan
from browser import Site, new_page
from insitu.model.exported import read_lock
from many_documents import write_export
from processes import resident
from report import Report
from scan import DIM, FEW, QUERIES, K, Vectors, best, recall

HERE = Path(__file__).resolve().parent / "peers"
NAMES = ("orama", "hnswlib", "edgevec", "client-vector-search")
PACKAGES = {"orama": "@orama/orama", "hnswlib": "hnswlib-wasm"}
# Milliseconds after which a slow peer is asked no more.
PATIENCE = 20_000


@dataclass
class Measured:
    """`build` and the `times` of single queries in milliseconds, `memory` and `stored` in bytes; None: not measured, as
    what came before took longer than the limit (`late`: what that was) or failed (`failed`: why)."""

    name: str
    build: float | None = None
    times: list[float] = field(default_factory=list)
    recall: float | None = None
    memory: float | None = None
    stored: float | None = None
    late: str = ""
    failed: str = ""


class Late(Exception):
    """It took longer than the limit."""


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
    report: Report,
    vectors: Vectors,
    places: tuple[Path, Path, Path],
    limit: float,
) -> Iterator[str]:
    """All of them, one after another; gives the name of who is next. `places`: the folder to work in, the built web
    files, the model. `limit`: seconds that one of them may take to build, to answer or to store."""
    out, web, model_dir = places
    alone = scan.measure(playwright, vectors, out / "scan", web)
    # Read for long: another run, with other vectors, must not write there.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        questions, texts = slice(0, FEW), slice(QUERIES, None)
        (folder / "queries.f32").write_bytes(vectors.floats[questions].astype("<f4").tobytes())
        (folder / "vectors.f32").write_bytes(vectors.floats[texts].astype("<f4").tobytes())
        wanted = best(vectors.floats[questions] @ vectors.floats[texts].T)
        yield "insitu"
        measured = [_insitu(playwright, vectors, web, model_dir, wanted)]
        site = Site({"peers": folder})
        try:
            for peer in NAMES:
                yield peer
                measured.append(one := Measured(peer))
                with new_page(playwright, f"{site.base}/blank.html") as page:
                    try:
                        _peer(page, one, limit, wanted)
                    except Late as late:
                        one.late = str(late)
                    except Exception as error:  # whatever a peer throws: the others are measured all the same
                        one.failed = str(error).splitlines()[0]
        finally:
            site.close()
    _tell(report, len(vectors.floats) - QUERIES, alone.times, measured, limit)
    report.versions.update({f"peer {name}": version for name, version in versions().items()})


def _peer(page: Page, one: Measured, limit: float, wanted: npt.NDArray[np.int64]) -> None:
    def act(name: str, *given: Any) -> Any:
        page.evaluate("(all) => bench.begin(...all)", [name, *given])
        try:
            page.wait_for_function("globalThis.done", timeout=limit * 1e3, polling=100)
        except PageTimeout:
            raise Late(name) from None
        found, why = page.evaluate("[done[0] ?? null, done[1] ?? '']")
        if why:
            raise RuntimeError(f"{name}: {why}")
        return found

    page.add_script_tag(url="/peers/peers.js", type="module")
    page.wait_for_function("globalThis.bench !== undefined")
    before = resident(page, 5)  # it has done nothing that could have left garbage
    one.build = act("build", one.name, "/peers/vectors.f32", DIM)
    one.memory = resident(page) - before
    asked = act("ask", "/peers/queries.f32", DIM, K, 3, PATIENCE)
    one.times = asked["times"]
    found = [[-1 if at is None else at for at in row] for row in asked["found"]]
    one.recall = recall(found, wanted[: len(found)].tolist())
    one.stored = act("store")["bytes"]


def _insitu(
    playwright: Playwright, vectors: Vectors, web: Path, model_dir: Path, wanted: npt.NDArray[np.int64]
) -> Measured:
    """A document each, whose id is its position."""
    texts, space = slice(QUERIES, None), read_lock(model_dir).space(DIM).name
    with disk.opened(playwright, web, model_dir) as place:
        file = place.site / "peers.insitu"
        codes, scales = vectors.codes[texts], vectors.scales[texts]
        write_export(file, space, codes, scales, {}, lambda n: {"id": str(n), "text": f"text {n}"})
        built, stored = place.fill(file.name)
        page, before = disk.weighed(place)
        disk.hold(page)
        disk.ask(page, vectors.questions[:3], {"k": K})
        memory = resident(page) - before
        asked = disk.ask(page, vectors.questions, {"k": K})
    share = recall([[int(id) for id in ids] for ids in asked.found], wanted.tolist())
    return Measured("insitu", built, asked.beyond, share, memory, stored)


def _tell(report: Report, count: int, alone: list[float], measured: list[Measured], limit: float) -> None:
    what = f"{count:,} x {DIM}"
    report.add(f"{what}: query", "insitu, its scan alone", 1, "ms", alone)
    rows: tuple[tuple[str, str, str, Callable[[Measured], list[float]]], ...] = (
        ("build", "to build", "s", lambda m: [] if m.build is None else [m.build / 1e3]),
        ("ask", "query", "ms", lambda m: m.times),
        ("", "recall@10", "", lambda m: [] if m.recall is None else [m.recall]),
        ("", "memory", "MB", lambda m: [] if m.memory is None else [m.memory / 1e6]),
        ("store", "stored", "MB", lambda m: [] if m.stored is None else [m.stored / 1e6]),
    )
    for act, row, unit, values in rows:
        for one in measured:
            if found := values(one):
                report.add(f"{what}: {row}", one.name, 1, unit, found)
            elif act and one.late == act:
                report.add(f"{what}: {row}", one.name, 1, "s", [limit], "not done by then, given up")
    report.notes += [f"{one.name} on {count:,} vectors gave no more: {one.failed}" for one in measured if one.failed]
