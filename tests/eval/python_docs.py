"""Questions to Python's own documentation, each with the pages that answer it: `tests/data/python-docs-questions.json`.

The questions were written as users ask, before any search was tried; the right pages were found by reading. Each page
is kept with a phrase that stands in it, so that a test can tell whether the installed documentation is the one meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from insitu.evaluate import found, mean, ndcg, recall

FILE = Path(__file__).parents[1] / "data" / "python-docs-questions.json"


@dataclass(frozen=True)
class Question:
    """`pages`: url of each right page (relative, without anchor) and a phrase of it."""

    text: str
    pages: dict[str, str]


@dataclass(frozen=True)
class Judged:
    """Means over all questions. `found` is the share of those with a right page among the first five."""

    questions: int
    ndcg_at_10: float
    recall_at_5: float
    found_at_5: float
    missed: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"Python's documentation, {self.questions} questions: nDCG@10 {self.ndcg_at_10:.3f}, "
            f"recall@5 {self.recall_at_5:.3f}, a right page among the first five for {self.found_at_5:.3f}"
        )


def load() -> list[Question]:
    return [Question(entry["question"], entry["pages"]) for entry in json.loads(FILE.read_text(encoding="utf-8"))]


def page_of(url: str) -> str:
    return url.partition("#")[0]


def judge(questions: Sequence[Question], search: Callable[[str], Sequence[str]]) -> Judged:
    """Ask all `questions`. `search` gives the urls of the hits for one, best first, with or without their anchors."""
    rankings = [[page_of(url) for url in search(question.text)] for question in questions]

    def over_all(measure: Callable[[Sequence[str], Collection[str], int], float], k: int) -> list[float]:
        return [measure(ranked, question.pages, k) for ranked, question in zip(rankings, questions, strict=True)]

    at_five = over_all(found, 5)
    return Judged(
        questions=len(questions),
        ndcg_at_10=mean(over_all(ndcg, 10)),
        recall_at_5=mean(over_all(recall, 5)),
        found_at_5=mean(at_five),
        missed=tuple(question.text for question, hit in zip(questions, at_five, strict=True) if not hit),
    )
