"""Filters: which documents a search looks at.

    {"tag": "home"}                          equal
    {"tag": None}                            has no tag
    {"date": {"gte": 20260101, "lt": 20270101}}     eq, ne, in, gt, gte, lt, lte: all must hold
    {"or": [{...}, {...}]}, {"and": [...]}, {"not": {...}}

Several names in one mapping must all hold. A document without a value is neither above nor below anything.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Any

from insitu.collection.documents import check_value
from insitu.collection.store import Columns
from insitu.errors import InvalidDocument, InvalidFilter

_RANGE: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_FLIP = bytes([1, 0]) + bytes(254)

# Bitmaps have a byte for each document, 0 or 1: whole collections are joined by one operation on a large integer.


def check_where(where: object, fields: Mapping[str, str]) -> None:
    """Raises `InvalidFilter` if `where` is no filter over these fields."""
    match(where, fields, Columns(array("I"), {name: [] for name in fields}))


def numbers_of(where: object, fields: Mapping[str, str], columns: Columns) -> list[int]:
    """The numbers of the documents that `where` lets pass, ascending. Raises `InvalidFilter`."""
    return list(compress(columns.numbers, match(where, fields, columns)))


def match(where: object, fields: Mapping[str, str], columns: Columns) -> bytes:
    """A byte for each document, 1 where `where` holds."""
    if not isinstance(where, Mapping):
        raise InvalidFilter(f"where: {where!r} is no filter. Write it as {{field: value}}.")
    count = len(columns.numbers)
    found = _ones(count)
    for name, wanted in where.items():
        if name in ("and", "or"):
            if not isinstance(wanted, Sequence) or isinstance(wanted, str):
                raise InvalidFilter(f"where: {name!r} takes a list of filters, not {wanted!r}.")
            parts = [match(part, fields, columns) for part in wanted]
            joined = _ones(count) if name == "and" else bytes(count)
            for part in parts:
                joined = _join(joined, part, all_of=name == "and")
        elif name == "not":
            joined = match(wanted, fields, columns).translate(_FLIP)
        else:
            joined = _field(name, wanted, fields, columns)
        found = _join(found, joined, all_of=True)
    return found


def _field(name: str, wanted: object, fields: Mapping[str, str], columns: Columns) -> bytes:
    if name not in fields:
        raise InvalidFilter(f"where: there is no field {name!r}; declared are {', '.join(fields) or 'none'}.")
    column = columns.values[name]
    found = _ones(len(column))
    for operation, value in (wanted if isinstance(wanted, Mapping) else {"eq": wanted}).items():
        found = _join(found, _compare(name, fields[name], operation, value, column), all_of=True)
    return found


def _compare(name: str, kind: str, operation: str, value: object, column: Sequence[Any]) -> bytes:
    if operation in ("eq", "ne"):
        wanted = _value(name, kind, value)
        equal = bytes([have == wanted for have in column])
        return equal if operation == "eq" else equal.translate(_FLIP)
    if operation == "in":
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise InvalidFilter(f"where: {name!r}: 'in' takes a list, not {value!r}.")
        among = {_value(name, kind, one) for one in value}
        return bytes([have in among for have in column])
    if operation not in _RANGE:
        known = ", ".join(("eq", "ne", "in", *_RANGE))
        raise InvalidFilter(f"where: {name!r}: there is no operator {operation!r}. Choose one of {known}.")
    wanted = _value(name, kind, value)
    if wanted is None:
        raise InvalidFilter(f"where: {name!r}: {operation!r} takes a {kind}, not None.")
    compare = _RANGE[operation]
    return bytes([have is not None and compare(have, wanted) for have in column])


def _value(name: str, kind: str, value: object) -> Any:
    try:
        return None if value is None else check_value(name, kind, value, "where")
    except InvalidDocument as error:
        raise InvalidFilter(str(error)) from None


def _join(a: bytes, b: bytes, *, all_of: bool) -> bytes:
    left, right = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    return (left & right if all_of else left | right).to_bytes(len(a), "little")


def _ones(count: int) -> bytes:
    return b"\1" * count
