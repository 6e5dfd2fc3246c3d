"""A content that is made beside the one that answers, in the database of a folder: its tables begin with `next_`.

Inside a transaction of `insitu.collection.folder`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_TABLES = ("segments", "dead", "documents", "texts")


def is_begun(db: Any) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'next_meta'").fetchone() is not None


def drop(db: Any) -> None:
    for table in ("meta", *_TABLES):
        db.execute(f"DROP TABLE IF EXISTS next_{table}")


def lacking(db: Any, lost: Sequence[int]) -> list[int]:
    """The numbers of the documents that it lacks, but for those `lost`."""
    select = (
        "SELECT d.number FROM documents d LEFT JOIN next_documents n USING (id) "
        "WHERE n.hash IS NULL OR n.hash != d.hash ORDER BY d.number"
    )
    leave = set(lost)
    return [number for (number,) in db.execute(select) if number not in leave]


def surplus(db: Any) -> list[str]:
    """The ids that are to be there no more; the other documents get the fields of today."""
    select = "SELECT id FROM next_documents n LEFT JOIN documents d USING (id) WHERE d.hash IS NULL OR d.hash != n.hash"
    gone = [json.loads(id) for (id,) in db.execute(select)]
    newest = "SELECT fields FROM documents d WHERE d.id = next_documents.id"
    db.execute(f"UPDATE next_documents SET fields = coalesce(({newest}), fields)")
    return gone


def take_place(db: Any) -> None:
    for table in _TABLES:
        db.execute(f"DROP TABLE {table}")
        db.execute(f"ALTER TABLE next_{table} RENAME TO {table}")
    db.execute("DROP TABLE next_meta")
