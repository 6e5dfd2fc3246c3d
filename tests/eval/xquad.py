"""Retrieval over XQuAD's English part: 240 passages of Wikipedia, every third question, one right passage each.

XQuAD (Artetxe, Ruder and Yogatama, "On the cross-lingual transferability of monolingual representations", 2020; CC
BY-SA 4.0) is not in this repository. Name the file by the environment variable INSITU_XQUAD. Run as a program, it
prints the table of models/minilm-l6/README.md:

    INSITU_XQUAD=xquad.en.json PYTHONPATH=py python tests/eval/xquad.py MODEL_DIR
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.embedder import Embedder
from insitu.evaluate import mean, ndcg
from insitu.runtime import Block
from insitu.runtime.native import NativeRuntime

VARIABLE = "INSITU_XQUAD"
EVERY = 3  # of 1,190 questions: 397 tell nDCG@10 to about 0.01
RESCORED = 50

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Questions:
    """`right[i]` is the position in `passages` of the one that answers question i."""

    passages: tuple[str, ...]
    questions: tuple[str, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What one size is worth. nDCG@10 by float32 vectors, by int8 codes, and by codes with the best `RESCORED` compared
    again at full size; `recall` is the share of the ten best by float32 that codes bring among their ten best."""

    dim: int
    vectors: float
    codes: float
    rescored: float
    recall: float


def load(path: Path | None = None) -> Questions | None:
    """The questions of `path`, or of the file that INSITU_XQUAD names; None, with the reason printed, without one."""
    if path is None:
        named = os.environ.get(VARIABLE)
        if not named or not Path(named).is_file():
            print(f"XQuAD skipped: {VARIABLE} names no file ({named!r}).")
            return None
        path = Path(named)
    passages: list[str] = []
    questions: list[str] = []
    right: list[int] = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                questions.append(question["question"])
                right.append(len(passages))
            passages.append(paragraph["context"])
    return Questions(tuple(passages), tuple(questions[::EVERY]), tuple(right[::EVERY]))


async def evaluate(embedder: Embedder, data: Questions, dims: Sequence[int]) -> list[Row]:
    """One row for each size, in the order of `dims`."""
    rows = []
    for dim in dims:
        passages = (await embedder.embed(data.passages, task="document", dim=dim)).block
        questions = (await embedder.embed(data.questions, task="query", dim=dim)).block
        exact = as_vectors(questions) @ as_vectors(passages).T
        coded = as_codes(questions.codes(), dim) @ as_codes(passages.codes(), dim).T
        full_dim = embedder.lock.full_dim
        full = as_codes(questions.full_codes(), full_dim) @ as_codes(passages.full_codes(), full_dim).T
        exact_best, coded_best = best(exact, 10), best(coded, 10)
        shared = [len({*a} & {*b}) / 10 for a, b in zip(exact_best, coded_best, strict=True)]
        first = [set(order) for order in best(coded, RESCORED)]
        again = [[p for p in order if p in kept] for order, kept in zip(best(full, full.shape[1]), first, strict=True)]
        rows.append(Row(dim, judge(exact_best, data), judge(coded_best, data), judge(again, data), mean(shared)))
    return rows


def judge(ranked: Sequence[Sequence[int]], data: Questions) -> float:
    """Mean nDCG@10."""
    return mean([ndcg(order, [right], 10) for order, right in zip(ranked, data.right, strict=True)])


def best(scores: Float, k: int) -> list[list[int]]:
    """Positions of the `k` highest of each row, best first, equal ones by position."""
    order: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()
    return order


def as_vectors(block: Block) -> Float:
    """count x dim float32."""
    return np.frombuffer(block.vectors(), "<f4").reshape(block.count, block.dim)


def as_codes(data: bytes, dim: int) -> Float:
    """count x dim float32: int8 codes times their scales."""
    count = len(data) // (dim + 4)
    codes = np.frombuffer(data, np.int8, count * dim).reshape(count, dim)
    scales = np.frombuffer(data, "<f4", offset=count * dim)
    vectors: Float = np.multiply(codes, scales[:, None], dtype=np.float32)
    return vectors


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"| dim | nDCG@10, float32 | int8 codes | codes, best {RESCORED} rescored at full size | recall@10, codes |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.dim} | {row.vectors:.3f} | {row.codes:.3f} | {row.rescored:.3f} | {row.recall:.4f} |"
        )  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: INSITU_XQUAD=FILE python tests/eval/xquad.py MODEL_DIR")
    data = load()
    if data is None:
        sys.exit(1)
    runtime = NativeRuntime.open(Path(sys.argv[1]))
    rows = asyncio.run(evaluate(Embedder(runtime, runtime.lock), data, runtime.lock.dims))
    print(f"{runtime.lock.name}:{runtime.lock.variant}, {len(data.passages)} passages, {len(data.questions)} questions")
    print(table(rows))


if __name__ == "__main__":
    main()
