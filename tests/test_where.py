"""Filters over columns against a slow twin that looks at one document after another."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.collection.columns import Column
from insitu.collection.where import match

FIELDS = {"tag": "keyword", "date": "number"}
COMPARE = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
TAGS = st.sampled_from(["", "a", "b", "\ud800", "\ue000", "\U0001f600", "zz"])
DATES = st.one_of(st.integers(-9, 9), st.sampled_from([0.5, -0.0, 1.0, 1e300]))
VALUES = {"tag": TAGS, "date": DATES}


def conditions(name: str) -> st.SearchStrategy[Any]:
    value = VALUES[name]
    above = st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), value)
    equal = st.tuples(st.sampled_from(["eq", "ne"]), st.none() | value)
    one_of = st.tuples(st.just("in"), st.lists(st.none() | value, max_size=4))
    return st.none() | value | st.lists(above | equal | one_of, max_size=2).map(dict)


WHERE = st.recursive(
    st.fixed_dictionaries({}, optional={name: conditions(name) for name in FIELDS}),
    lambda part: (
        st.fixed_dictionaries({"and": st.lists(part, max_size=2)})
        | st.fixed_dictionaries({"or": st.lists(part, max_size=2)})
        | st.fixed_dictionaries({"not": part})
    ),
    max_leaves=4,
)
DOCUMENTS = st.lists(st.fixed_dictionaries({}, optional=dict(VALUES)), max_size=8)


def passes(where: Any, document: dict[str, Any]) -> bool:
    """The twin."""
    for name, wanted in where.items():
        if name == "and":
            holds = all(passes(part, document) for part in wanted)
        elif name == "or":
            holds = any(passes(part, document) for part in wanted)
        elif name == "not":
            holds = not passes(wanted, document)
        else:
            have: Any = document.get(name)
            tests = wanted if isinstance(wanted, dict) else {"eq": wanted}
            holds = all(
                have in value
                if operation == "in"
                else COMPARE[operation](have, value)
                if operation in ("eq", "ne") or have is not None
                else False
                for operation, value in tests.items()
            )
        if not holds:
            return False
    return True


def found(where: Any, columns: dict[str, Column], count: int) -> list[bool]:
    mask = match(where, FIELDS, columns, count).to_bytes(count, "little")
    assert set(mask) <= {0, 1}
    return [bool(byte) for byte in mask]


def columns_of(documents: Sequence[dict[str, Any]]) -> dict[str, Column]:
    columns = {name: Column() for name in FIELDS}
    for place, document in enumerate(documents):
        for name, column in columns.items():
            column.set(place, document.get(name))
    return columns


@given(DOCUMENTS, st.lists(st.tuples(DOCUMENTS, st.integers(0, 7), WHERE), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_filter_is_what_looking_at_each_document_says(
    documents: list[dict[str, Any]], steps: list[tuple[list[dict[str, Any]], int, Any]]
) -> None:
    columns = columns_of(documents)
    for more, place, where in steps:
        assert found(where, columns, len(documents)) == [passes(where, document) for document in documents]
        if place < len(documents) and more:  # fields of a document that is there
            documents[place] = more[0]
            for name, column in columns.items():
                column.set(place, more[0].get(name))
        for document in more:
            for name, column in columns.items():
                column.set(len(documents), document.get(name))
            documents.append(document)
    assert found(where, columns, len(documents)) == [passes(where, document) for document in documents]


@pytest.mark.parametrize("count", [255, 256, 257, 65_535, 65_536, 70_000])
def test_ranks_of_one_two_and_three_bytes(count: int) -> None:
    columns = {"tag": Column(), "date": Column(list(range(count)), array("I", range(count + 1)))}  # the first has none
    for low, high in ((0, 1), (254, 256), (255, 600), (65_500, 65_600), (3, count - 1)):
        wanted = [low <= number < high for number in range(-1, count)]
        assert found({"date": {"gte": low, "lt": high}}, columns, count + 1) == wanted
    for some in ([0], [255, 256], [count - 1, 65_535, 7]):
        assert found({"date": {"in": some}}, columns, count + 1) == [n in some for n in range(-1, count)]
    assert found({"date": None}, columns, count + 1) == [True] + [False] * count
