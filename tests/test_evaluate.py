"""The measures, against rankings whose value is known."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import InvalidArgument
from insitu.evaluate import found, mean, ndcg, recall

NAMES = st.lists(st.integers(0, 30), max_size=20)
RIGHT = st.sets(st.integers(0, 30), min_size=1, max_size=12)


def test_a_right_name_first_is_worth_all() -> None:
    assert ndcg(["a", "b"], {"a"}) == 1.0


@pytest.mark.parametrize("place", range(1, 11))
def test_one_right_name_is_worth_less_the_later_it_comes(place: int) -> None:
    ranked = [f"wrong {i}" for i in range(place - 1)] + ["right"]
    assert ndcg(ranked, {"right"}) == pytest.approx(1 / log2(place + 1))


def test_a_right_name_behind_the_first_k_is_worth_nothing() -> None:
    ranked = [f"wrong {i}" for i in range(10)] + ["right"]
    assert ndcg(ranked, {"right"}, 10) == recall(ranked, {"right"}, 10) == found(ranked, {"right"}, 10) == 0
    assert ndcg(ranked, {"right"}, 11) > 0


def test_two_of_three_right_names_by_hand() -> None:
    gained, possible = 1 + 1 / log2(4), 1 + 1 / log2(3) + 1 / log2(4)
    assert ndcg(["a", "x", "b"], {"a", "b", "c"}) == pytest.approx(gained / possible)
    assert recall(["a", "x", "b"], {"a", "b", "c"}, 3) == pytest.approx(2 / 3)
    assert found(["a", "x", "b"], {"a", "b", "c"}, 3) == 1


def test_more_right_names_than_places_can_still_be_a_perfect_ranking() -> None:
    assert ndcg(range(10), set(range(30)), 10) == pytest.approx(1)


def test_a_name_counts_once_at_its_first_place() -> None:
    assert ndcg(["a", "a", "b"], {"b"}) == ndcg(["a", "b"], {"b"})
    assert recall(["a", "a"], {"a", "b"}, 2) == 0.5


@given(NAMES, RIGHT, st.integers(1, 15))
def test_measures_stay_between_none_and_all(ranked: list[int], right: set[int], k: int) -> None:
    values = [ndcg(ranked, right, k), recall(ranked, right, k), found(ranked, right, k)]
    assert all(0 <= value <= 1 + 1e-12 for value in values)
    assert (values[0] > 0) == (values[1] > 0) == (values[2] == 1)


@given(NAMES, RIGHT)
def test_right_names_moved_to_the_front_are_never_worth_less(ranked: list[int], right: set[int]) -> None:
    moved = sorted(dict.fromkeys(ranked), key=lambda name: name not in right)
    assert ndcg(moved, right) >= ndcg(ranked, right) - 1e-12


@pytest.mark.parametrize("measure", [ndcg, recall, found])
def test_nothing_to_find_is_an_error(measure: object) -> None:
    with pytest.raises(InvalidArgument):
        measure(["a"], set(), 5)  # type: ignore[operator]
    with pytest.raises(InvalidArgument):
        measure(["a"], {"a"}, 0)  # type: ignore[operator]


def test_the_mean_of_nothing_is_an_error() -> None:
    assert mean([1.0, 0.0]) == 0.5
    with pytest.raises(InvalidArgument):
        mean([])
