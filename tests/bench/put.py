"""What the store costs a put beside its embedding: `.venv/bin/python tests/bench/put.py [--turns 5] [--notes 200]`.

Two measures of one run, each a share of the time of embedding. *Within a put*: while it ran, how long embedding was
under way, how long a call of the store was, and the rest (Python: checks, cutting, hashes, JSON); nothing else runs
then, so load of the machine touches all three alike. *In turns*: putting texts against embedding as many others of the
same lengths, one after the other, and the median of the differences. The worker is bundled from the sources and tells
of both; nothing of that is shipped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from collection import opened, site_of  # noqa: E402
from conftest import CHROMIUM_ARGS  # noqa: E402
from page.conftest import worker  # noqa: E402
from page.folder import Served  # noqa: E402
from texts import passages  # noqa: E402

# Short notes: 5 to 30 words. Half of them are embedded alone, half are put.
SHORTEST, LONGEST = 5, 30
# Milliseconds in which at least one call of a kind was under way.
TELL = b"""
{
    const kinds = { embedding: { at: 0, running: 0, took: 0 }, store: { at: 0, running: 0, took: 0 } };
    const watch = (kind, of, name) => {
        const plain = of.prototype[name];
        const begin = () => { if (kind.running++ === 0) kind.at = performance.now(); };
        const end = () => { if (--kind.running === 0) kind.took += performance.now() - kind.at; };
        of.prototype[name] = function (...all) {
            begin();
            let found;
            try { found = plain.apply(this, all); } catch (error) { end(); throw error; }
            if (found instanceof Promise) found.then(end, end);
            else end();
            return found;
        };
    };
    for (const name of ["tokenize", "forward"]) watch(kinds.embedding, Host, name);
    const calls = ["commit", "find", "news", "meta", "room", "fold", "compact"];
    for (const name of calls) watch(kinds.store, CollectionStore, name);
    new BroadcastChannel("put").onmessage = ({ target }) => {
        target.postMessage({ embedding: kinds.embedding.took, store: kinds.store.took });
        for (const kind of Object.values(kinds)) kind.took = 0;
    };
}
"""
TURN = """async ([alone, given, first]) => {
    const channel = new BroadcastChannel("put");
    const told = () => new Promise((done) => {
        channel.onmessage = ({data}) => done(data);
        channel.postMessage("tell");
    });
    const timed = async (work) => {
        const start = performance.now();
        await work();
        return performance.now() - start;
    };
    const embed = () => timed(() => insitu.embed(alone, {dim: 128}));
    const put = async () => {
        await told();
        const took = await timed(() => notes.put(given.map((text, i) => ({id: `${first + i}`, text}))));
        return {...await told(), took};
    };
    // Who comes first is who had the colder machine: by turns.
    if (first % 2) return { embed: await embed(), put: await put() };
    const measured = await put();
    return { embed: await embed(), put: measured };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--notes", type=int, default=200, help="notes of a turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        site = site_of(folder)
        (site / "worker.js").write_bytes(worker(folder / "worker.js").encode() + TELL)
        path = (ROOT / ".build/chromium").read_text().strip()
        with Served(site).running() as served:
            context = playwright.chromium.launch_persistent_context(
                folder / "profile", executable_path=path, args=CHROMIUM_ARGS
            )
            page = opened(context, served.address)
            page.evaluate("async () => { window.notes = await insitu.collection('notes'); }")
            turns: list[Any] = []
            for turn in range(arguments.turns + 1):  # the first warms up
                texts = passages(arguments.notes, SHORTEST, LONGEST, seed=100 + turn)
                given = [f"{text} {turn}" for text in texts]  # of the same length, but another text
                turns.append(page.evaluate(TURN, [texts, given, turn * 100_000 + turn % 2]))
            context.close()
    report(turns[1:], arguments.notes)


def report(turns: list[Any], notes: int) -> None:
    print(f"{len(turns)} turns of {notes} notes of {SHORTEST} to {LONGEST} words; medians")

    def show(what: str, of: list[float], unit: str = "ms") -> None:
        spread = f"({min(of):.1f} to {max(of):.1f})"
        print(f"{what:58} {statistics.median(of):8.1f} {unit} {spread}")

    puts = [turn["put"] for turn in turns]
    show("embedding alone", [turn["embed"] for turn in turns])
    show("put", [put["took"] for put in puts])
    show("  of that, embedding", [put["embedding"] for put in puts])
    show("  of that, the store", [put["store"] for put in puts])
    show("  of that, Python and the way there", [put["took"] - put["embedding"] - put["store"] for put in puts])
    show("the store / embedding, within a put", [100 * put["store"] / put["embedding"] for put in puts], "%")
    all_else = [100 * (put["took"] / put["embedding"] - 1) for put in puts]
    show("all but embedding / embedding, within a put", all_else, "%")
    more = [100 * (turn["put"]["took"] / turn["embed"] - 1) for turn in turns]
    show("(put - embedding alone) / embedding alone, in turns", more, "%")


if __name__ == "__main__":
    main()
