"""The benchmark: `python3 build.py bench --json FILE`. Everything is measured here and now, in one run.

The page is compared with transformers.js 4 in the same Chromium and with native onnxruntime, in turns: each round asks
each of them once, so that a busy moment of the machine falls on all. Figures are medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright
from rich.console import Console
from rich.progress import Progress

import collection
import gemma
import memory
import million
import peers
import put
import rival
import scan
import visit
from browser import ARGUMENTS, Site, executable, new_page
from insitu.model import cache, ensure
from ours import NativeSubject, PageSubject
from report import Report
from texts import passages, queries

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("query", "bulk", "start", "scan", "collection", "put", "memory", "gemma", "million", "peers")
USUAL = PARTS[:-2]  # some peers take long to build, and so do clusters
MODEL, VARIANT = "minilm-l6", "int8"
OUT = ROOT / ".build" / "bench"
WEB = Path(os.environ.get("INSITU_WEB_DIST") or ROOT / "web" / "dist")  # as web/build.mjs has it
BATCH = 16
QUERY, BULK = "query, 16 tokens", "texts of 20-200 words"
# Queries of one round, for each subject. Each text is asked once.
ASKED = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 if everything asked for was measured, whatever the figures."""
    args = parse(argv)
    os.environ.setdefault("INSITU_MODELS", str(ROOT / ".build" / "models"))
    console = Console(width=None if sys.stdout.isatty() else 140)
    report = Report()
    started = time.monotonic()
    model_dir = ensure(MODEL, VARIANT)
    with sync_playwright() as playwright, Progress(console=console, transient=True) as progress:
        report.versions["chromium"] = chromium_version(playwright)
        if {"query", "bulk"} & set(args.only):
            for threads in args.threads:
                compare(playwright, report, model_dir, threads, args, progress)
        if "start" in args.only:
            starts(playwright, report, args, progress)
        if "scan" in args.only:
            scans(playwright, report, model_dir, args, progress)
        if {"million", "collection", "peers"} & set(args.only):
            beside_real_ones(playwright, report, model_dir, args, progress)
        if "put" in args.only:
            with shown(progress, "what the store costs a put"):
                put.measure(playwright, report, WEB, model_dir, args.rounds, args.notes)
        if "memory" in args.only:
            with shown(progress, "memory of an export and an import"):
                memory.measure(playwright, report, WEB, model_dir)
        if "gemma" in args.only:
            with shown(progress, "a checkpoint of EmbeddingGemma's size (made once)"):
                exports = gemma.prepare(OUT)
            gemma.blank(playwright, report)
            for threads in args.threads:
                with shown(progress, f"EmbeddingGemma's size, {threads}"):
                    gemma.measure(playwright, report, exports, WEB, threads, args.rounds)
            with shown(progress, "EmbeddingGemma's size, visits"):
                gemma.visits(playwright, report, exports, WEB, args.rounds)
    judge(report)
    report.notes.append(f"Took {time.monotonic() - started:.0f} s; load average at the end {os.getloadavg()[0]:.1f}.")
    report.show(console)
    if args.json:
        report.write(args.json)
        console.print(f"Written to {args.json}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def parts(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [part for part in chosen if part not in PARTS]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(PARTS)}")
        return chosen

    parser = argparse.ArgumentParser(
        prog="build.py bench", description=__doc__, epilog="example: python3 build.py bench --only query --threads 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--only", type=parts, default=list(USUAL), metavar="PARTS", help=f"of {','.join(PARTS)}")
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="N,N", help="threads of the model: 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each subject (5)")
    parser.add_argument("--texts", type=int, default=64, help="texts of the bulk measure (64)")
    parser.add_argument("--vectors", type=numbers, default=[20_000, 100_000], help="sizes to scan: 20000,100000")
    parser.add_argument("--documents", type=numbers, default=[100_000], help="sizes of collections: 100000")
    parser.add_argument("--notes", type=int, default=200, help="notes of one turn of the puts (200)")
    parser.add_argument("--peers", type=numbers, default=[20_000, 100_000], help="vectors for peers: 20000,100000")
    parser.add_argument("--limit", type=float, default=900, help="seconds a peer may take to build, or to store (900)")
    parser.add_argument("--no-rival", action="store_true", help="leave transformers.js out")
    parser.add_argument("--plain", action="store_true", help="measure transformers.js on the plain WASM build too")
    return parser.parse_args(argv)


def chromium_version(playwright: Playwright) -> str:
    browser = playwright.chromium.launch(executable_path=executable(playwright), args=list(ARGUMENTS))
    try:
        return browser.version
    finally:
        browser.close()


def compare(
    playwright: Playwright,
    report: Report,
    model_dir: Path,
    threads: int,
    args: argparse.Namespace,
    progress: Progress,
) -> None:
    """Queries and bulk of page, rival and native on `threads` threads, in turns."""
    folders = {"bench": visit.HERE, "ours": WEB, "model": model_dir}
    builds = {} if args.no_rival else {"transformers.js": "default build"}
    if builds and args.plain:
        builds["transformers.js, plain WASM build"] = "plain build"
    if builds:
        folders["rival"] = rival.prepare(cache.source_dir(MODEL), OUT / "rival")
    native = NativeSubject(model_dir, threads)
    with ExitStack() as stack:
        stack.callback(native.close)
        site = Site(folders)
        stack.callback(site.close)

        def opened(engine: str) -> PageSubject:
            page = stack.enter_context(new_page(playwright, f"{site.base}/blank.html"))
            paths = {"bench": "/bench", "base": "/ours", "model": "/model/model.lock.json"}
            return PageSubject(page, **paths, threads=threads, engine=engine)

        ours, same = opened("insitu"), opened("onnxruntime")
        rivals: dict[str, rival.Rival] = {}
        for name, build in builds.items():
            page = stack.enter_context(new_page(playwright, f"{site.base}/blank.html"))
            rivals[name] = rival.Rival(page, f"{site.base}/rival", threads=threads, build=build)
            report.versions.update({f"rival {key}": value for key, value in rivals[name].versions.items()})
        each: dict[str, Callable[[Sequence[str]], list[float]]] = {
            "page": ours.each,
            "page, by onnxruntime-web": same.each,
            **{name: r.each for name, r in rivals.items()},
            "native": native.each,
        }
        bulk: dict[str, Callable[[Sequence[str]], float]] = {
            "page": ours.bulk,
            "page, by onnxruntime-web": same.bulk,
            "native": native.bulk,
        }
        for name, r in rivals.items():
            # mypy does not know the type of a default of a lambda; without one, both would name the last rival.
            bulk[f"{name}, batches of {BATCH}"] = lambda texts, r=r: r.bulk(texts, BATCH)  # type: ignore[misc]
            bulk[f"{name}, one by one"] = lambda texts, r=r: r.bulk(texts, 1)  # type: ignore[misc]
        if "query" in args.only:
            texts = queries(ASKED * (2 * args.rounds + 1), native.tokens)
            turns(report, progress, f"{QUERY}, {threads}", each, texts, threads)
        if "bulk" in args.only:
            measure_bulk(report, progress, bulk, threads, args)


def turns(
    report: Report,
    progress: Progress,
    label: str,
    subjects: dict[str, Callable[[Sequence[str]], list[float]]],
    texts: Sequence[str],
    threads: int,
) -> None:
    """Each subject gets the next `ASKED` texts in turn; the first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for start in progress.track(range(0, len(texts), ASKED), description=label):
        for name, run in subjects.items():
            taken = run(texts[start : start + ASKED])
            times[name] += taken if start else []
    for name, values in times.items():
        report.add(QUERY, name, threads, "ms", values)


def measure_bulk(
    report: Report,
    progress: Progress,
    subjects: dict[str, Callable[[Sequence[str]], float]],
    threads: int,
    args: argparse.Namespace,
) -> None:
    """All texts, `args.rounds` times each subject, after a short run of each to warm up."""
    texts = passages(args.texts)
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for run in subjects.values():
        run(texts[:BATCH])
    for _ in progress.track(range(args.rounds), description=f"{BULK}, {threads}"):
        for name, run in subjects.items():
            times[name].append(run(texts) / 1e3)
    for name, values in times.items():
        report.add(BULK, name, threads, "s", values, f"{len(texts)} texts")


def starts(playwright: Playwright, report: Report, args: argparse.Namespace, progress: Progress) -> None:
    """Cold and warm start on the indexed documentation site, and the bytes of a first visit."""
    folder = visit.index_docs(OUT)
    folders = {"bench": visit.HERE, "insitu": folder}
    site = Site(folders)
    try:
        options = {"base": "/insitu", "index": "/insitu/index.json"}
        visits = [
            visit.pair(playwright, site, options)
            for _ in progress.track(range(args.rounds), description="first and second visits")
        ]
    finally:
        site.close()
    first = visits[0][0]
    threads = int(first.stats["threads"])
    note = f"{first.stats['count']} passages"
    report.add("until the first answer", "first visit", threads, "ms", [a.answered for a, _ in visits], note)
    report.add("until the first answer", "second visit", threads, "ms", [b.answered for _, b in visits], note)
    # The plan's budget for MiniLM.
    report.check("second visit, until the first answer", report.figures[-1].median, "<=", 1000, "ms")
    joins = statistics.median(visit.joined(a) for a, _ in visits)
    report.check("first visit, from the end of its slowest load to open", joins, "<=", 300, "ms")
    states = ", ".join(b.stats["snapshot"]["state"] for _, b in visits)
    report.notes.append(f"The interpreter's snapshot in the second visits: {states}.")
    for name, steps in (("first", first.stats["steps"]), ("second", visits[0][1].stats["steps"])):
        parts = (f"{step} {t['start']:.0f}+{t['took']:.0f}" for step, t in steps.items())
        report.notes.append(f"Steps of the {name} visit, start + duration in ms: {', '.join(parts)}.")
    with shown(progress, "compressing what was loaded (kept for the next run)") as show:
        report.first_visit = visit.sizes(first.files, folders, OUT, show)
    total = report.first_visit[-1]
    report.check("first visit, bytes in all (gzip)", total["gzip"] / 1e6, "<=", 32, "MB")
    report.check("first visit, bytes in all (brotli)", total["brotli"] / 1e6, "<=", 32, "MB")
    again = sum(file.stat().st_size for file in visits[0][1].files)
    report.notes.append(f"The second visit asked the server for {len(visits[0][1].files)} files, {again:,} bytes.")


def real_vectors(
    report: Report, model_dir: Path, args: argparse.Namespace, progress: Progress, measure: str
) -> Iterator[tuple[int, scan.Vectors]]:
    """(count, that many real vectors) for each size; a size for which there are too few texts is noted and left out."""
    native = NativeSubject(model_dir, 0)
    try:
        for count in args.vectors:
            try:
                vectors = embed_sentences(native, count, progress)
            except ValueError as error:
                report.notes.append(f"{measure} {count:,} vectors left out: {error}")
                continue
            yield count, vectors
    finally:
        native.close()


def scans(
    playwright: Playwright, report: Report, model_dir: Path, args: argparse.Namespace, progress: Progress
) -> None:
    """Scan time and recall on real vectors."""
    for count, vectors in real_vectors(report, model_dir, args, progress, "Scan of"):
        result = scan.measure(playwright, vectors, OUT / "scan", WEB)
        name = f"scan of {count:,} x {scan.DIM}"
        figure = report.add(name, f"page, {result.kernel} kernel", 1, "ms", result.times)
        report.check(f"{name}: recall@10 against the same codes", result.recall_codes, ">=", 1.0, "")
        report.check(f"{name}: recall@10 against float32", result.recall_floats, ">=", 0.99, "")
        if count == 100_000:
            report.check(f"{name}, one thread", figure.median, "<=", 1.0, "ms")
        report.notes.append(f"The {count:,} vectors are drawn from {vectors.what}.")


def beside_real_ones(
    playwright: Playwright, report: Report, model_dir: Path, args: argparse.Namespace, progress: Progress
) -> None:
    """What is measured of vectors like real ones: as many as the first of `args.vectors` are embedded."""
    first = argparse.Namespace(**{**vars(args), "vectors": args.vectors[:1]})
    for real_count, real in real_vectors(report, model_dir, first, progress, "What is like"):
        if "collection" in args.only:
            for count in args.documents:
                with shown(progress, f"a collection of {count:,}"):
                    collection.measure(playwright, report, real, WEB, model_dir, count)
        if "million" in args.only:
            with shown(progress, f"{million.COUNT:,} vectors: scan, clusters"):
                million.measure(playwright, report, real, OUT / "million", WEB)
        for count in args.peers if "peers" in args.only else ():
            vectors = real if count == real_count else scan.like(real, count)
            task = progress.add_task("", total=None)
            for name in peers.measure(playwright, report, vectors, (OUT, WEB, model_dir), args.limit):
                progress.update(task, description=f"peers, {count:,} vectors: {name}")
            progress.remove_task(task)
            report.notes.append(f"The {count:,} vectors of the peers are {vectors.what}.")


def embed_sentences(native: NativeSubject, count: int, progress: Progress) -> scan.Vectors:
    """See `scan.embed`; shows how far it is."""
    with shown(progress, f"embedding {count:,} sentences (kept for the next run)") as show:
        return scan.embed(native, count, OUT, show)


@contextmanager
def shown(progress: Progress, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for `what`, moved by calls with (done, total)."""
    task = progress.add_task(what, total=None)
    try:
        yield lambda done, total: progress.update(task, completed=done, total=total)
    finally:
        progress.remove_task(task)


def judge(report: Report) -> None:
    """The ratios that the budgets speak of."""
    for threads in sorted({f.threads for f in report.figures if f.threads}):
        page, rest = report.median(QUERY, "page", threads), f"on {threads} thread{'s' if threads > 1 else ''}"
        if page:
            if other := report.median(QUERY, "transformers.js", threads):
                report.check(f"query {rest}: transformers.js / page", other / page, ">=", 1.3)
            if other := report.median(QUERY, "native", threads):
                report.check(f"query {rest}: page / native", page / other, "<=", 6)
        page = report.median(BULK, "page", threads)
        if page:
            batches = report.median(BULK, f"transformers.js, batches of {BATCH}", threads)
            alone = report.median(BULK, "transformers.js, one by one", threads)
            if batches and alone:
                report.check(f"bulk {rest}: transformers.js in batches / page", batches / page, ">=", 2.5)
                report.check(f"bulk {rest}: transformers.js at its best / page", min(batches, alone) / page, ">=", 1.2)
            if other := report.median(BULK, "native", threads):
                # No budget for MiniLM: the plan's figure for a document of 256 tokens stands here as a guide.
                report.check(f"bulk {rest}: page / native", page / other, "<=", 4.5)


if __name__ == "__main__":
    sys.exit(main())
