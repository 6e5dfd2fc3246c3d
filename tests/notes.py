"""A collection of four notes in a folder, over the fake runtime: what tests of collections begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from fake_runtime import FakeRuntime, fake_lock
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.collection.search import Found
from insitu.embedder import Embedder

T = TypeVar("T")
FIELDS = {"tag": "keyword", "date": "number"}
NOTES: list[dict[str, Any]] = [
    {"id": "car", "text": "parked the blue car behind the town hall", "fields": {"tag": "home", "date": 20260105}},
    {
        "id": "cat",
        "text": "the cat wants dry food and a clean box",
        "title": "Cat",
        "fields": {"tag": "home", "date": 3},
    },
    {"id": "tax", "text": "income tax is due at the end of may", "fields": {"tag": "work", "date": 20250531}},
    {"id": "plain", "text": "nothing is known of this one"},
]


def embedder(**more: Any) -> Embedder:
    runtime = FakeRuntime(lock=fake_lock(**more))
    return Embedder(runtime, runtime.lock)


async def opened(folder: Path, **more: Any) -> Collection:
    more.setdefault("fields", FIELDS)
    return await Collection.open(more.pop("embedder", None) or embedder(), FolderStore(folder), **more)


async def of_notes(folder: Path, **more: Any) -> Collection:
    notes = await opened(folder, **more)
    await notes.put(NOTES)
    return notes


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def ids(hits: list[Found]) -> list[str]:
    return [hit.id for hit in hits]


def embedded(notes: Collection) -> int:
    runtime = notes.embedder.runtime
    assert isinstance(runtime, FakeRuntime)
    return len(runtime.embedded)
