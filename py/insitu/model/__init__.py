"""Models: manifest, fetch, export, and the exported folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from insitu.errors import InsituError


def ensure(name: str, variant: str = "int8", *, on_step: Callable[[str], None] | None = None) -> Path:
    """The folder of the exported model, fetched and exported first where it is not there, not whole, or out of date.

    Raises what `fetch` and `export` raise.
    """
    from insitu.model import cache, exported, manifest

    known = manifest.load(name).of_variant(variant)
    folder = cache.export_dir(known.name, variant)
    try:
        lock = exported.read_lock(folder)
        exported.check_export(folder, lock)
        if lock.weights == known.identity(lock.row_bits, lock.finer) or not known.hashed:
            return folder
    except InsituError:
        pass  # made again below
    from insitu.model.export import export
    from insitu.model.fetch import fetch

    if cache.published_dir(known) == cache.source_dir(known.name):  # not a folder with its own weights
        fetch(name, variant, on_step=on_step)
    return export(name, variant, on_step=on_step)
