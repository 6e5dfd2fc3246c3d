"""A million vectors in the page: the exact scan, and the clusters that answer by default above 1,048,576.

No real texts are so many: the vectors are drawn from 20,000 real ones, each moved by noise; the questions are real.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright

from browser import Site, new_page
from peers import resident
from scan import DIM, FEW, QUERIES, ROOT, K, Vectors

COUNT = 1 << 20
# Length of the noise for a vector of length 1. A text and its nearest one in 20,000 sentences are further apart.
NOISE = 0.5


@dataclass(frozen=True)
class Million:
    """`exact` and `near`: milliseconds of each question. `recall`: recall@10 of the clusters against the exact scan;
    `looked`: the share of the vectors that they look at; `trained`: milliseconds until they are there; `memory`: bytes,
    clusters included."""

    kernel: str
    exact: list[float]
    near: list[float]
    recall: float
    looked: float
    trained: float
    memory: float


def measure(playwright: Playwright, vectors: Vectors, out: Path, web: Path, count: int = COUNT) -> Million:
    """With the kernel in `web` (the built web files)."""
    out.mkdir(parents=True, exist_ok=True)
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={out / 'million.js'}"]
    esbuild = ROOT / "node_modules/.bin/esbuild"
    subprocess.run([str(esbuild), str(Path(__file__).with_name("million.ts")), *options], check=True)
    (out / "queries.bin").write_bytes(vectors.floats[:FEW].astype("<f4").tobytes())
    (out / "vectors.bin").write_bytes(vectors.shard(slice(QUERIES, None)))
    site = Site({"million": out, "web": web})
    try:
        with new_page(playwright, f"{site.base}/blank.html") as page:
            page.add_script_tag(url="/million/million.js", type="module")
            page.wait_for_function("globalThis.bench !== undefined")
            before = resident(page)
            base = {"base": f"{site.base}/web/", "dim": DIM, "count": count, "noise": NOISE, "k": K}
            done: dict[str, Any] = page.evaluate("options => bench.measure(options)", base)
            memory = resident(page) - before
    finally:
        site.close()
    times = {"exact": done["long"], "near": done["near"], "trained": done["trained"]}
    return Million(done["kernel"], recall=done["recall"], looked=done["looked"], memory=memory, **times)
