"""The scan kernel of the page, on real vectors: time on one thread, and what is lost against float32."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Playwright

from browser import Site, new_page
from corpus import sentences
from insitu.runtime.native import QUERY_MOST
from ours import NativeSubject

ROOT = Path(__file__).resolve().parents[2]
DIM = 128
K = 10
# Of so many the mean share of ten hits is known to about 0.0007.
QUERIES = 2000
# So many of them where each takes long.
FEW = 200
# Questions compared with all vectors at once: their products with 100,000 take 160 MB.
COMPARED = 200
ROUNDS = 400
# Length of the noise for a vector of length 1. A text and its nearest one in 20,000 sentences are further apart.
NOISE = 0.5
# Vectors that are made, written and read at once.
PIECE = 1 << 16
# Texts of one call: enough for full batches, few enough to show how far it is.
CALL = 1024

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Vectors:
    """`floats` (n, dim) unit vectors, `codes` (n, dim), `scales` (n,): the first `QUERIES` rows are questions.
    `sentences(drawn)` are the texts, those of the questions first."""

    floats: Floats
    codes: Codes
    scales: Floats
    what: str
    drawn: int

    @property
    def questions(self) -> list[str]:
        """The first `FEW` of them, as texts."""
        return sentences(self.drawn)[0][:FEW]

    def shard(self, rows: slice) -> bytes:
        """The layout of a vector shard."""
        return self.codes[rows].tobytes() + self.scales[rows].astype("<f4").tobytes()


def embed(native: NativeSubject, count: int, cache: Path, progress: Callable[[int, int], None]) -> Vectors:
    """`count` vectors and `QUERIES` questions, kept in `cache`. Raises ValueError if there are not so many texts."""
    lock, total = native.runtime.lock, count + QUERIES
    file = cache / f"vectors-{lock.graph.sha256[:12]}-{count}-{QUERIES}.npz"
    if file.exists():
        kept = np.load(file)
        return Vectors(kept["floats"], kept["codes"], kept["scales"], str(kept["what"]), total)
    texts, what = sentences(total)
    floats, codes, scales = np.empty((total, DIM), np.float32), np.empty((total, DIM), np.int8), np.empty(total, "<f4")
    for start in range(0, total, CALL):
        rows = slice(start, min(start + CALL, total))
        block = native.embed(texts[rows], dim=DIM).block
        floats[rows] = np.frombuffer(block.vectors(), "<f4").reshape(-1, DIM)
        data = np.frombuffer(block.codes(), np.uint8)
        codes[rows] = data[: block.count * DIM].view(np.int8).reshape(-1, DIM)
        scales[rows] = data[block.count * DIM :].view("<f4")
        progress(rows.stop, total)
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(file, floats=floats, codes=codes, scales=scales, what=np.array(what))
    return Vectors(floats, codes, scales, what, total)


def like(real: Vectors, count: int) -> Vectors:
    """The same questions, and `count` vectors drawn from real ones, each moved by noise: no real texts are so many."""
    draw, texts = np.random.default_rng(1), real.floats[QUERIES:]
    floats = np.empty((QUERIES + count, DIM), np.float32)
    codes, scales = np.empty(floats.shape, np.int8), np.empty(len(floats), np.float32)
    floats[:QUERIES], codes[:QUERIES], scales[:QUERIES] = (
        part[:QUERIES] for part in (real.floats, real.codes, real.scales)
    )
    for start in range(QUERIES, len(floats), PIECE):
        rows = slice(start, min(start + PIECE, len(floats)))
        size = rows.stop - start
        moved = texts[draw.integers(0, len(texts), size)]
        moved += NOISE / DIM**0.5 * draw.standard_normal((size, DIM), np.float32)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        floats[rows], scales[rows] = moved, abs(moved).max(1) / 127
        codes[rows] = np.rint(moved / scales[rows, None])
    return Vectors(floats, codes, scales, f"{len(texts):,} vectors of {real.what}, with noise", real.drawn)


def best(scores: Floats) -> npt.NDArray[np.int64]:
    """The positions of the `K` best of each row, best first, equal scores by position."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return order.astype(np.int64)


def recall(found: Iterable[Sequence[int | str]], wanted: Iterable[Sequence[int | str]]) -> float:
    """The mean share of `wanted` that is in `found`, row by row."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, wanted, strict=True)]))


@dataclass(frozen=True)
class Scanned:
    """`times` in milliseconds; recall@10 of the kernel against the same codes in numpy and against float32."""

    kernel: str
    times: list[float]
    recall_codes: float
    recall_floats: float


def bundle(out: Path) -> None:
    """`scan_page.ts` with the page's own scanner, as one module."""
    out.mkdir(parents=True, exist_ok=True)
    esbuild = ROOT / "node_modules/.bin/esbuild"
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={out / 'scan_page.js'}"]
    subprocess.run([str(esbuild), str(Path(__file__).with_name("scan_page.ts")), *options], check=True)


def measure(playwright: Playwright, vectors: Vectors, out: Path, web: Path) -> Scanned:
    """Scan all of `vectors` in Chromium with the kernel in `web` (the built web files)."""
    bundle(out)
    questions, texts = slice(0, QUERIES), slice(QUERIES, None)
    (out / "queries.bin").write_bytes(vectors.floats[questions].astype("<f4").tobytes())
    (out / "vectors.bin").write_bytes(vectors.shard(texts))
    count = len(vectors.codes) - QUERIES
    site = Site({"scan": out, "web": web})
    try:
        with new_page(playwright, f"{site.base}/blank.html") as page:
            page.add_script_tag(url="/scan/scan_page.js", type="module")
            page.wait_for_function("globalThis.bench !== undefined")
            place = {"base": f"{site.base}/web/", "vectors": "/scan/vectors.bin", "queries": "/scan/queries.bin"}
            kernel = page.evaluate("options => bench.load(options)", {**place, "dim": DIM, "count": count})
            result = page.evaluate("([rounds, k]) => bench.scan(rounds, k)", [ROUNDS, K])
    finally:
        site.close()
    found = result["found"]
    exact, floats = [], []
    for start in range(0, QUERIES, COMPARED):
        asked = vectors.floats[start : start + COMPARED].astype(np.float64)
        units = (abs(asked).max(1, keepdims=True) / QUERY_MOST).astype(np.float32)
        products = np.floor(asked / units + 0.5) @ vectors.codes[texts].astype(np.float64).T
        exact += best(products.astype(np.float32) * vectors.scales[texts] * units).tolist()
        floats += best(vectors.floats[start : start + COMPARED] @ vectors.floats[texts].T).tolist()
    return Scanned(str(kernel), list(map(float, result["times"])), recall(found, exact), recall(found, floats))
