"""How good a ranking is. Pure functions over ranked names (page urls, passage numbers) and the set of right ones.

All take `ranked`, best first; of a name that occurs again only its first place counts (a page found by two of its
passages). All raise `InvalidArgument` where no name is right, since nothing could then be found.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from math import log2
from typing import TypeVar

from insitu.errors import InvalidArgument

Name = TypeVar("Name", bound=Hashable)


def ndcg(ranked: Iterable[Name], right: Collection[Name], k: int = 10) -> float:
    """nDCG@k, 0 to 1, with the gain 1 for a right name and 0 for any other.

    DCG = sum over places i = 1..k of gain_i / log2(i + 1), divided by the DCG of the best possible ranking: all right
    names first (Jaervelin and Kekaelaeinen, "Cumulated gain-based evaluation of IR techniques", 2002).
    """
    _check(right, k)
    gained = sum(1 / log2(place + 2) for place, name in enumerate(_unique(ranked)[:k]) if name in right)
    return gained / sum(1 / log2(place + 2) for place in range(min(k, len(set(right)))))


def recall(ranked: Iterable[Name], right: Collection[Name], k: int) -> float:
    """Recall@k, 0 to 1: how many of the right names are among the first `k`, as a share of all right ones.

    (Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", 2008, section 8.4.) Where more than `k`
    names are right it stays below 1: `found` asks for one of them only.
    """
    _check(right, k)
    return len(set(_unique(ranked)[:k]) & set(right)) / len(set(right))


def found(ranked: Iterable[Name], right: Collection[Name], k: int) -> float:
    """Success@k: 1 if any right name is among the first `k`, else 0."""
    _check(right, k)
    return float(any(name in right for name in _unique(ranked)[:k]))


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean. Raises `InvalidArgument` for no values."""
    if not values:
        raise InvalidArgument("There are no values to take the mean of. Give at least one question.")
    return sum(values) / len(values)


def _unique(ranked: Iterable[Name]) -> list[Name]:
    return list(dict.fromkeys(ranked))


def _check(right: Collection[Name], k: int) -> None:
    if not right:
        raise InvalidArgument("A question needs at least one right answer to be judged by.")
    if k < 1:
        raise InvalidArgument(f"k is {k}: judge at least the first place.")
