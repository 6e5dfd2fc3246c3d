"""Bad input to collections: a named error, and nothing changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from insitu import errors
from insitu.collection.folder import FILE
from notes import NOTES, embedder, ids, of_notes, opened, run


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda c: c.put([*NOTES[:1], NOTES[0]]), errors.InvalidDocument),
        (lambda c: c.put([{"id": 7, "text": "a"}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": ""}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": None}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "title": 1}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "tags": []}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"tag": 1}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": "today"}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": True}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": float("nan")}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"date": 2**60}}]), errors.InvalidDocument),
        (lambda c: c.put([{"id": "a", "text": "b", "fields": {"other": 1}}]), errors.InvalidDocument),
        (lambda c: c.put("text"), errors.InvalidArgument),
        (lambda c: c.put([NOTES[0], "text"]), errors.InvalidDocument),
        (lambda c: c.delete("car"), errors.InvalidArgument),
        (lambda c: c.delete(["car", 1]), errors.InvalidArgument),
        (lambda c: c.search("a", k=0), errors.InvalidArgument),
        (lambda c: c.search("a", k=1_000_000), errors.InvalidArgument),
        (lambda c: c.search("a", k=True), errors.InvalidArgument),
        (lambda c: c.search(" "), errors.EmptyQuery),
        (lambda c: c.search(), errors.InvalidArgument),
        (lambda c: c.search(7), errors.InvalidArgument),
        (lambda c: c.search("a", where={"tag": {"like": "h"}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"other": 1}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": 1}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": {"gt": None}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"tag": {"in": "home"}}), errors.InvalidFilter),
        (lambda c: c.search("a", where={"or": {}}), errors.InvalidFilter),
        (lambda c: c.search("a", where="tag"), errors.InvalidFilter),
    ],
)
def test_bad_input_is_a_named_error_and_changes_nothing(tmp_path: Path, call: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        notes = await of_notes(tmp_path)
        before = await notes.search(where={}, k=50)
        revision = (await notes.stats())["revision"]
        with pytest.raises(kind) as raised:
            await call(notes)
        assert type(raised.value) is kind
        assert await notes.search(where={}, k=50) == before
        assert (await notes.stats())["revision"] == revision

    run(main())


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"fields": {"tag": "number"}}, errors.InvalidArgument),
        ({"fields": {"tag": "text"}}, errors.InvalidArgument),
        ({"fields": {"or": "keyword"}}, errors.InvalidArgument),
        ({"fields": ["tag"]}, errors.InvalidArgument),
        ({"dim": 8}, errors.InvalidArgument),
        ({"rescore": 100}, errors.InvalidArgument),
        ({"embedder": embedder(name="other")}, errors.SpaceMismatch),
    ],
)
def test_a_collection_is_not_opened_as_another(tmp_path: Path, options: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        await of_notes(tmp_path)
        with pytest.raises(kind):
            await opened(tmp_path, **options)
        assert len(await (await opened(tmp_path)).search(where={})) == 4

    run(main())


def test_a_field_may_be_added_later(tmp_path: Path) -> None:
    async def main() -> None:
        await of_notes(tmp_path)
        notes = await opened(tmp_path, fields={"stars": "number"})
        await notes.put([{"id": "new", "text": "a new one", "fields": {"stars": 3, "tag": "home"}}])
        assert ids(await notes.search(where={"stars": {"gte": 1}})) == ["new"]
        assert ids(await notes.search(where={"tag": "home"})) == ["new", "cat", "car"]

    run(main())


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    run(of_notes(tmp_path))
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(errors.CollectionVersion, match="99"):
        run(opened(tmp_path))
