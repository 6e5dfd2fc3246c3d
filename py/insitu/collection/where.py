"""Filters: which documents a search looks at.

    {"tag": "home"}                          equal
    {"tag": None}                            has no tag
    {"date": {"gte": 20260101, "lt": 20270101}}     eq, ne, in, gt, gte, lt, lte: all must hold
    {"or": [{...}, {...}]}, {"and": [...]}, {"not": {...}}

Several names in one mapping must all hold. A document without a value is neither above nor below anything.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from insitu.collection.columns import Column
from insitu.collection.documents import check_value
from insitu.errors import InvalidDocument, InvalidFilter

_OPERATORS = ("eq", "ne", "in", "gt", "gte", "lt", "lte")


def check_where(where: object, fields: Mapping[str, str]) -> None:
    """Raises `InvalidFilter` if `where` is no filter over these fields."""
    match(where, fields, {name: Column() for name in fields}, 0)


def match(where: object, fields: Mapping[str, str], columns: Mapping[str, Column], count: int) -> int:
    """A byte for each of `count` documents, the first the lowest, 1 where `where` holds. Raises `InvalidFilter`."""
    if not isinstance(where, Mapping):
        raise InvalidFilter(f"where: {where!r} is no filter. Write it as {{field: value}}.")
    found = every = int.from_bytes(b"\1" * count, "little")
    for name, wanted in where.items():
        if name in ("and", "or"):
            if not isinstance(wanted, Sequence) or isinstance(wanted, str):
                raise InvalidFilter(f"where: {name!r} takes a list of filters, not {wanted!r}.")
            joined = every if name == "and" else 0
            for part in wanted:
                one = match(part, fields, columns, count)
                joined = joined & one if name == "and" else joined | one
        elif name == "not":
            joined = every ^ match(wanted, fields, columns, count)
        else:
            joined = _field(name, wanted, fields, columns, every)
        found &= joined
    return found


def _field(name: str, wanted: object, fields: Mapping[str, str], columns: Mapping[str, Column], every: int) -> int:
    if name not in fields:
        raise InvalidFilter(f"where: there is no field {name!r}; declared are {', '.join(fields) or 'none'}.")
    column = columns[name]
    column.settle()
    found = every
    for operation, value in (wanted if isinstance(wanted, Mapping) else {"eq": wanted}).items():
        one = column.having(_spans(name, fields[name], operation, value, column.values))
        found &= every ^ one if operation == "ne" else one
    return found


def _spans(name: str, kind: str, operation: str, value: object, values: Sequence[Any]) -> list[tuple[int, int]]:
    """Of ranks (see `Column`), those that `operation` lets pass; for 'ne' those that it does not."""
    if operation not in _OPERATORS:
        known = ", ".join(_OPERATORS)
        raise InvalidFilter(f"where: {name!r}: there is no operator {operation!r}. Choose one of {known}.")
    if operation == "in" and (not isinstance(value, Sequence) or isinstance(value, str)):
        raise InvalidFilter(f"where: {name!r}: 'in' takes a list, not {value!r}.")
    spans = []
    for item in value if operation == "in" and isinstance(value, Sequence) else [value]:
        wanted = _value(name, kind, item)
        if wanted is None:
            if operation[0] in "gl":
                raise InvalidFilter(f"where: {name!r}: {operation!r} takes a {kind}, not None.")
            spans.append((0, 1))
            continue
        low, high = bisect_left(values, wanted) + 1, bisect_right(values, wanted) + 1
        if operation[0] == "g":
            low, high = (high if operation == "gt" else low), len(values) + 1
        elif operation[0] == "l":
            low, high = 1, (low if operation == "lt" else high)
        spans.append((low, high))
    return spans


def _value(name: str, kind: str, value: object) -> Any:
    try:
        return None if value is None else check_value(name, kind, value, "where")
    except InvalidDocument as error:
        raise InvalidFilter(str(error)) from None
