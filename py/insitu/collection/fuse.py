"""Two rankings become one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

from insitu.errors import InvalidArgument

Key = TypeVar("Key", bound=Hashable)

# How slowly a place loses worth. The paper has 60. By tests/eval/words.py (DESIGN.md, "Words beside the meaning") 5 is
# the one that gains in one language and loses nothing across two: with 60 the places 1 and 50 of the words count nearly
# the same, and what only shares a name with the question comes before what answers it.
RANK_CONSTANT = 5


def fuse(meaning: Sequence[Key], words: Sequence[Key], weight: float) -> list[Key]:
    """Weighted reciprocal rank fusion of two rankings, best first, each key once in each.

    A key is worth (1 - weight) / (5 + its place by meaning) + weight / (5 + its place by words); places begin at 1, and
    a ranking without it adds nothing (Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet
    and individual rank learning methods", SIGIR 2009; the weights are ours). What is worth nothing is left out. Of
    equal ones the better by meaning is first.
    """
    worth: dict[Key, float] = {}
    for ranking, share in ((meaning, 1 - weight), (words, weight)):
        if share:
            for place, key in enumerate(ranking, RANK_CONSTANT + 1):
                worth[key] = worth.get(key, 0.0) + share / place
    return sorted(worth, key=worth.__getitem__, reverse=True)


def check_weight(words: object) -> float:
    """Raises `InvalidArgument` for what is no weight."""
    if isinstance(words, bool) or not isinstance(words, int | float) or not 0 <= words <= 1:
        raise InvalidArgument(f"words is {words!r}: give a number from 0 (meaning only) to 1 (words only).")
    return words
