"""Two openings of one collection in CPython."""

from __future__ import annotations

import asyncio
from pathlib import Path

import insitu


def test_a_delete_does_not_hide_from_filters_what_another_opening_put_before_it(
    model_dir: Path, tmp_path: Path
) -> None:
    async def found() -> list[str]:
        one = await insitu.open_collection(tmp_path / "notes", fields={"tag": "keyword"})
        two = await insitu.open_collection(tmp_path / "notes")
        await one.put([{"id": "1", "text": "a", "fields": {"tag": "x"}}])
        assert len(await two.search(None, where={"tag": "x"})) == 1  # it holds the fields now
        await one.put([{"id": "2", "text": "b", "fields": {"tag": "x"}}])
        await two.delete(["1"])
        return [hit.id for hit in await two.search(None, where={"tag": "x"})]

    assert model_dir and asyncio.run(found()) == ["2"]
