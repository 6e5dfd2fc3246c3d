"""What the store costs a put beside its embedding: `build.py bench --only put`.

Two measures of one run, each a share of the time of embedding. *Within a put*: while it ran, how long embedding was
under way, how long a call of the store was, and the rest (Python: checks, cutting, hashes, JSON); nothing else runs
then, so load of the machine touches all three alike. *In turns*: putting texts against embedding as many others of the
same lengths, one after the other, and the median of the differences. The worker is bundled from the sources and tells
of both; nothing of that is shipped.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright

import disk
from page.conftest import worker
from report import Report
from texts import passages

# Short notes: 5 to 30 words. Half of them are embedded alone, half are put.
SHORTEST, LONGEST = 5, 30
# Milliseconds in which at least one call of a kind was under way.
TELL = """
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


def measure(playwright: Playwright, report: Report, web: Path, model_dir: Path, turns: int, notes: int) -> None:
    """`turns` turns of so many `notes`."""
    taken: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        telling = (worker(Path(folder) / "worker.js") + TELL).encode()
    with disk.opened(playwright, web, model_dir, telling) as place:
        page = place.open()
        page.evaluate("async () => { window.notes = await insitu.collection('notes'); }")
        for turn in range(turns + 1):  # the first warms up
            texts = passages(notes, SHORTEST, LONGEST, seed=100 + turn)
            given = [f"{text} {turn}" for text in texts]  # of the same length, but another text
            taken.append(page.evaluate(TURN, [texts, given, turn * 100_000 + turn % 2]))
    name = f"put of {notes} notes of {SHORTEST} to {LONGEST} words"
    puts = [turn["put"] for turn in taken[1:]]

    def tell(subject: str, values: list[float], unit: str = "ms") -> float:
        return report.add(name, subject, None, unit, values).median

    tell("embedding as many others alone", [turn["embed"] for turn in taken[1:]])
    tell("put", [put["took"] for put in puts])
    tell("of that, embedding", [put["embedding"] for put in puts])
    tell("of that, the store", [put["store"] for put in puts])
    tell("of that, Python and the way there", [put["took"] - put["embedding"] - put["store"] for put in puts])
    store = tell("the store / embedding", [100 * put["store"] / put["embedding"] for put in puts], "%")
    tell("all else / embedding", [100 * (put["took"] / put["embedding"] - 1) for put in puts], "%")
    more = [100 * (turn["put"]["took"] / turn["embed"] - 1) for turn in taken[1:]]
    tell("put beyond embedding alone, in turns", more, "%")
    report.check(f"{name}: the store / embedding", store, "<=", 5, "%")
