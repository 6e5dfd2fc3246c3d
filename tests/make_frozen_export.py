"""Writes tests/data/export-v1, an export as this release makes it: `.venv/bin/python tests/make_frozen_export.py`.

It was run once. Later releases must read what it wrote, so it refuses to write again; a new format gets a new folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent))

from insitu.collection.files import write_export
from notes import NOTES, opened, run

FOLDER = Path(__file__).resolve().parent / "data/export-v1"


async def main() -> None:
    FOLDER.mkdir()
    with TemporaryDirectory() as folder:
        notes = await opened(Path(folder), dim=16)
        await notes.put([*NOTES, {"id": "gone", "text": "this goes again"}])
        long = "\n\n".join(f"Paragraph {number}. " + "many words of one long document " * 30 for number in range(4))
        await notes.put([{"id": "\ud800 any \U0001f600", "title": "Long", "text": long, "fields": {"date": 0.5}}])
        await notes.delete(["gone"])
        await write_export(notes.store, FOLDER / "plain.insitu")
        await write_export(notes.store, FOLDER / "sealed.insitu", "open sesame")


if __name__ == "__main__":
    run(main())
