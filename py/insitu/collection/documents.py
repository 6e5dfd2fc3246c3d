"""What may be put into a collection: fields and documents. All is checked before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insitu.errors import InvalidArgument, InvalidDocument
from insitu.text import chunk

KINDS = ("keyword", "number")
RESERVED = ("and", "or", "not")  # words of filters
# JS has no larger whole numbers, and a file must mean the same on both sides.
LARGEST = 2**53


@dataclass(frozen=True)
class Document:
    """`id` is any string. `fields` holds only what the document has a value for."""

    id: str
    text: str
    title: str
    fields: Mapping[str, str | float]

    @property
    def hash(self) -> str:
        """Of what decides its vectors, but for the model: 128 bits of SHA-256, hex."""
        parts = json.dumps([chunk.VERSION, chunk.TARGET_TOKENS, self.title, self.text])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]

    @property
    def size(self) -> int:
        """About how many bytes it takes, its vectors apart."""
        return len(self.text) + len(self.title) + len(json.dumps([self.id, self.fields]))


def check_fields(fields: Mapping[str, str] | None) -> dict[str, str]:
    """Raises `InvalidArgument` for a field that cannot be."""
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise InvalidArgument(f"fields: {fields!r} is no mapping of names to kinds ({', '.join(KINDS)}).")
    for name, kind in fields.items():
        if not isinstance(name, str) or not name or name in RESERVED:
            raise InvalidArgument(f"fields: {name!r} cannot be the name of a field. Choose another name.")
        if kind not in KINDS:
            raise InvalidArgument(f"fields: {name!r} is of the kind {kind!r}. Choose {' or '.join(KINDS)}.")
    return dict(fields)


def check_value(name: str, kind: str, value: object, where: str) -> str | float:
    """`value` if a field of `kind` can hold it. Raises `InvalidDocument`."""
    if kind == "keyword" and isinstance(value, str):
        return value
    if kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise InvalidDocument(f"{where}: the field {name!r} is {value}; whole numbers go to 2 to the power of 53.")
        if math.isfinite(value):
            return value
    raise InvalidDocument(f"{where}: the field {name!r} is {value!r}, not a {kind}.")


def check_documents(given: object, fields: Mapping[str, str]) -> list[Document]:
    """Raises `InvalidDocument`, naming the first that cannot be put and why."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise InvalidArgument("put() takes a list of documents: [{id, text, title, fields}, ...].")
    found: dict[str, Document] = {}
    for position, item in enumerate(given):
        document = _check(item, f"document {position}", fields)
        if document.id in found:
            raise InvalidDocument(f"document {position}: the id {document.id!r} is there twice. Put each id once.")
        found[document.id] = document
    return list(found.values())


def check_ids(ids: object) -> list[str]:
    if not isinstance(ids, Sequence) or isinstance(ids, str | bytes):
        raise InvalidArgument("delete() takes a list of ids.")
    for id in ids:
        if not isinstance(id, str):
            raise InvalidArgument(f"delete(): {id!r} is no id; ids are strings.")
    return list(dict.fromkeys(ids))


def _check(item: object, where: str, fields: Mapping[str, str]) -> Document:
    if not isinstance(item, Mapping):
        raise InvalidDocument(f"{where} is {type(item).__name__}, not {{id, text, title, fields}}.")
    unknown = [key for key in item if key not in ("id", "text", "title", "fields")]
    if unknown:
        raise InvalidDocument(f"{where}: {unknown[0]!r} is not known; values of your own go into `fields`.")
    id = item.get("id")
    if not isinstance(id, str):
        raise InvalidDocument(f"{where}: the id is {id!r}, not a string.")
    where = f"{where} ({id!r})"
    text, title = item.get("text"), _or(item.get("title"), "")
    if not isinstance(text, str) or not isinstance(title, str):
        raise InvalidDocument(f"{where}: {'title' if isinstance(text, str) else 'text'} is no string.")
    if not text.strip() and not title.strip():
        raise InvalidDocument(f"{where} has neither text nor title. Leave it out, or give it words to be found by.")
    values = _or(item.get("fields"), {})
    if not isinstance(values, Mapping):
        raise InvalidDocument(f"{where}: fields is {values!r}, not a mapping.")
    for name in values:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidDocument(
                f"{where}: the field {name!r} was not declared ({known} was). Open the collection with it."
            )
    checked = {
        name: check_value(name, fields[name], value, where) for name, value in values.items() if value is not None
    }
    return Document(id, text, title, checked)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
