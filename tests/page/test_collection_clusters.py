"""Clusters through the whole page: a large collection answers by them, exactly if wanted, and from one state always.

The worker is bundled from the sources with a lower threshold, and tells when clusters are asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from conftest import watched
from insitu.embedder import Embedder
from many_documents import write_export
from page.conftest import TELL_CLUSTERS, opened_on, until, wait, worker
from page.folder import Served

DIM, COUNT, LEAST, K = 32, 6000, 3000, 10
THINGS = ["cat", "car", "train", "tax form", "fish tank", "chess board", "garden gate", "bicycle", "letter", "old song"]
PLACES = ["in the kitchen", "behind the town hall", "at my aunt's", "under the bridge", "by the sea", "in Rome"]
VERBS = ["I left", "we saw", "she painted", "nobody wants"]
SENTENCES = [f"{verb} the {thing} {place}." for verb in VERBS for thing in THINGS for place in PLACES]
QUERIES = [f"where is the {thing} {place}" for thing in THINGS for place in PLACES[:4]]


def like(rows: Any, count: int) -> Any:
    """Unit vectors near some of `rows`."""
    random = np.random.default_rng(3)
    found = rows[random.integers(0, len(rows), count)] + random.normal(scale=0.5 / DIM**0.5, size=(count, DIM))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    plain = worker(tmp_path_factory.mktemp("worker") / "worker.js")
    changed, count = re.subn(r"\bLEAST_ROWS = 1 << 20\b", f"LEAST_ROWS = {LEAST}", plain)
    assert count == 1
    return (changed + TELL_CLUSTERS).encode()


@pytest.fixture(scope="module")
def rows(runtime: Any) -> Any:
    """Vectors like those of `SENTENCES`."""
    block = wait(Embedder(runtime, runtime.lock).embed(SENTENCES, dim=DIM)).block
    return like(np.frombuffer(block.vectors(), np.float32).reshape(-1, DIM), COUNT)


@pytest.fixture(scope="module")
def clustered(
    browser: Browser, site: Path, script: bytes, runtime: Any, rows: Any, tmp_path_factory: Any
) -> Iterator[Page]:
    """A page with the collection in `notes`; clusters are made, and `told` counts how often they were asked."""
    scales = (abs(rows).max(1) / 127).astype(np.float32)
    codes = np.rint(rows / scales[:, None]).astype(np.int8)
    file = tmp_path_factory.mktemp("export") / "many.insitu"

    def document(number: int) -> dict[str, Any]:
        return {"id": f"note {number}", "text": f"note {number}", "fields": {"tag": "odd" if number % 2 else "even"}}

    write_export(file, runtime.lock.space(DIM).name, codes, scales, {"tag": "keyword"}, document)
    with Served(site).running() as served, watched(browser, silent=True, origins=(served.address,)) as page:
        served.instead |= {"/insitu/worker.js": script, "/many.insitu": file.read_bytes()}
        opened_on(page, served)
        page.evaluate("""async () => {
            window.told = 0;
            window.clusters = new BroadcastChannel("clusters");
            clusters.onmessage = () => { told += 1; };
            window.notes = await insitu.import("many", await (await fetch("/many.insitu")).blob());
        }""")
        until(page, "(await notes.search('a cat')).length && told > 0", 120_000)
        yield page


Hit = tuple[str, float, str]


def search(page: Page, options: dict[str, Any]) -> tuple[list[list[Hit]], int]:
    """(id, score, text) of the hits of all `QUERIES`, and how often clusters were asked."""
    found, asked = page.evaluate(
        """async ([queries, options]) => {
            await new Promise((done) => setTimeout(done, 200)); // what was told before
            told = 0;
            const found = [];
            for (const query of queries) found.push(await notes.search(query, options));
            await new Promise((done) => setTimeout(done, 200));
            return [found.map((hits) => hits.map(({id, score, text}) => [id, score, text])), told];
        }""",
        [QUERIES, options],
    )
    return [[tuple(hit) for hit in hits] for hits in found], asked


def scores(page: Page, rows: Any) -> Any:
    """Of all of `rows` for each of `QUERIES`."""
    ask = (
        f"async (queries) => (await insitu.embed(queries, {{task: 'query', dim: {DIM}}})).map((one) => Array.from(one))"
    )
    return np.array(page.evaluate(ask, QUERIES)) @ rows.T


def test_a_large_collection_answers_by_clusters_and_exactly_if_wanted(clustered: Page, rows: Any) -> None:
    near, asked = search(clustered, {"k": K})
    exact, never = search(clustered, {"k": K, "exact": True})
    assert (asked, never) == (len(QUERIES), 0)
    wanted = np.sort(scores(clustered, rows), axis=1)[:, : -K - 1 : -1]
    assert np.abs(np.array([[score for _, score, _ in hits] for hits in exact]) - wanted).max() < 0.01
    assert all(len(hits) == K for hits in near)
    share = [len(set(a) & set(b)) / K for a, b in zip(near, exact, strict=True)]
    assert float(np.mean(share)) >= 0.9


def test_a_filter_has_all_that_it_passes_compared(clustered: Page, rows: Any) -> None:
    odd, asked = search(clustered, {"k": K, "where": {"tag": "odd"}})
    assert asked == 0
    wanted = np.sort(scores(clustered, rows)[:, 1::2], axis=1)[:, : -K - 1 : -1]
    assert np.abs(np.array([[score for _, score, _ in hits] for hits in odd]) - wanted).max() < 0.01
    assert all(int(id.split()[1]) % 2 for hits in odd for id, _, _ in hits)


def test_what_is_put_replaced_and_deleted_after_clusters_were_made_is_seen(clustered: Page) -> None:
    near, _ = search(clustered, {"k": K})
    best = list(dict.fromkeys(hits[0][0] for hits in near))
    gone, replaced = best[::2], best[1::2]
    clustered.evaluate("(queries) => notes.put(queries.map((text, i) => ({id: `new ${i}`, text})))", QUERIES)
    assert clustered.evaluate("(ids) => notes.delete(ids)", gone) == len(gone) > 10
    clustered.evaluate("(ids) => notes.put(ids.map((id) => ({id, text: `other than ${id}`})))", replaced)
    after, asked = search(clustered, {"k": K})
    assert asked == len(QUERIES)
    assert [hits[0][0] for hits in after] == [f"new {i}" for i in range(len(QUERIES))]
    found = {id: text for hits in after for id, _, text in hits}
    assert not found.keys() & set(gone)
    assert all(found[id] == f"other than {id}" for id in found.keys() & set(replaced))
