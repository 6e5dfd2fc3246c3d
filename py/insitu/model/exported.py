"""Reading an exported model folder."""

from __future__ import annotations

from pathlib import Path

from insitu.errors import ModelNotFound
from insitu.model import cache
from insitu.model.lock import ModelLock


def read_lock(folder: Path) -> ModelLock:
    """The lock of an exported model. Raises `ModelNotFound`, `ModelCorrupt`."""
    path = folder / "model.lock.json"
    if not path.is_file():
        raise ModelNotFound(
            f"{folder} holds no exported model (no model.lock.json). Export one: insitu models export NAME"
        )
    return ModelLock.from_json(path.read_bytes())


def check_export(folder: Path, lock: ModelLock) -> None:
    """Raise `ModelCorrupt` unless each file of the exported model is whole."""
    for ref in lock.files:
        cache.check_file(folder / ref.file, ref, f"Export it again: insitu models export {lock.name}")
