"""A million vectors in the page: the exact scan, and the clusters that answer by default above 1,048,576.

No real texts are so many: the vectors are like 20,000 real ones (`scan.like`); the questions are real.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright

from browser import Site, new_page
from processes import resident
from report import Report
from scan import DIM, FEW, PIECE, QUERIES, ROOT, K, Vectors, like

COUNT = 1 << 20


def measure(playwright: Playwright, report: Report, real: Vectors, out: Path, web: Path, count: int = COUNT) -> None:
    """`count` vectors like `real`, with the kernel in `web` (the built web files)."""
    out.mkdir(parents=True, exist_ok=True)
    options = ["--bundle", "--format=esm", "--log-level=warning", f"--outfile={out / 'million.js'}"]
    esbuild = ROOT / "node_modules/.bin/esbuild"
    subprocess.run([str(esbuild), str(Path(__file__).with_name("million.ts")), *options], check=True)
    (out / "queries.bin").write_bytes(real.floats[:FEW].astype("<f4").tobytes())
    vectors = like(real, count)
    starts = range(QUERIES, QUERIES + count, PIECE)
    for number, start in enumerate(starts):
        (out / str(number)).write_bytes(vectors.shard(slice(start, start + PIECE)))
    site = Site({"million": out, "web": web})
    try:
        with new_page(playwright, f"{site.base}/blank.html") as page:
            page.add_script_tag(url="/million/million.js", type="module")
            page.wait_for_function("globalThis.bench !== undefined")
            # From the disk: of what is fetched, who watches the network keeps a copy in the page's process.
            page.evaluate("document.body.innerHTML = '<input type=file multiple>'")
            page.set_input_files("input", [out / str(number) for number in range(len(starts))])
            before = resident(page)
            base = {"base": f"{site.base}/web/", "dim": DIM, "count": count, "k": K}
            done: dict[str, Any] = page.evaluate("options => bench.measure(options)", base)
            memory = resident(page) - before
    finally:
        site.close()
    name = f"{count:,} x {DIM}"
    figure = report.add(f"{name}: query", f"exact scan, {done['kernel']} kernel", 1, "ms", done["long"])
    report.check(f"{name}: exact scan, one thread", figure.median, "<=", 12, "ms")
    report.add(f"{name}: query", "clusters", 1, "ms", done["near"], f"{done['looked']:.0%} of the vectors looked at")
    report.check(f"{name}: clusters, recall@10 against the exact scan", done["recall"], ">=", 0.95, "")
    report.add(f"{name}: until clusters are made", "page", 1, "s", [done["trained"] / 1e3])
    report.add(f"{name}: memory", "page", 1, "MB", [memory / 1e6], "clusters included")
    report.notes.append(f"The {count:,} are {vectors.what}.")
