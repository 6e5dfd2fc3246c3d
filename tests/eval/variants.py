"""What it costs to ask with one variant of a model vectors that another made. XQuAD, as in `xquad.py`.

nDCG@10 for each pair of exports. Passages are int8 codes and questions float32, nearly what the scan compares:

    INSITU_XQUAD=xquad.en.json PYTHONPATH=py:tests python tests/eval/variants.py MODEL_DIR MODEL_DIR...
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.xquad import Float, Questions, as_codes, as_vectors, best, load
from insitu.embedder import Embedder
from insitu.evaluate import mean, ndcg
from insitu.runtime.native import NativeRuntime


@dataclass(frozen=True)
class Vectors:
    """Of one variant at one size: documents as they are stored, questions as they are asked."""

    documents: Float
    questions: Float


@dataclass(frozen=True)
class Pair:
    """What questions of one variant find among documents of another: `scores`, nDCG@10 of each question."""

    dim: int
    documents: str
    questions: str
    scores: tuple[float, ...]


async def vectors(embedder: Embedder, data: Questions, dim: int) -> Vectors:
    documents = (await embedder.embed(data.passages, task="document", dim=dim)).block
    questions = (await embedder.embed(data.questions, task="query", dim=dim)).block
    return Vectors(as_codes(documents.codes(), dim), as_vectors(questions))


def pairs(made: dict[str, Vectors], data: Questions, dim: int) -> list[Pair]:
    """Each variant asked by each."""
    found = []
    for documents, stored in made.items():
        for questions, asked in made.items():
            order = best(asked.questions @ stored.documents.T, 10)
            scores = tuple(ndcg(ranked, [right], 10) for ranked, right in zip(order, data.right, strict=True))
            found.append(Pair(dim, documents, questions, scores))
    return found


def table(found: Sequence[Pair]) -> str:
    """A row for each pair; the difference to documents asked by their own variant, and its standard error."""
    own = {(pair.dim, pair.documents): pair.scores for pair in found if pair.documents == pair.questions}
    lines = ["| dim | documents | questions | nDCG@10 | less than asked by their own |", "|---|---|---|---|---|"]
    for pair in found:
        loss = np.array(own[pair.dim, pair.documents]) - np.array(pair.scores)
        error = loss.std() / len(loss) ** 0.5
        lines.append(
            f"| {pair.dim} | {pair.documents} | {pair.questions} | {mean(pair.scores):.4f} "
            f"| {loss.mean():+.4f} +- {error:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: INSITU_XQUAD=FILE python tests/eval/variants.py MODEL_DIR MODEL_DIR...")
    data = load()
    if data is None:
        sys.exit(1)
    embedders = {}
    for folder in sys.argv[1:]:
        runtime = NativeRuntime.open(Path(folder), threads=1)
        embedders[runtime.lock.variant] = Embedder(runtime, runtime.lock)
    lock = next(iter(embedders.values())).lock
    found = []
    for dim in lock.dims:
        made = {name: asyncio.run(vectors(embedder, data, dim)) for name, embedder in embedders.items()}
        found += pairs(made, data, dim)
    print(f"{lock.name}, {len(data.passages)} passages, {len(data.questions)} questions")
    print(table(found))


if __name__ == "__main__":
    main()
