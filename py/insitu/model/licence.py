"""Licences that want to be accepted before weights are fetched or exported. Asked for once, then remembered."""

from __future__ import annotations

import os

from insitu.errors import LicenceNotAccepted
from insitu.model import cache
from insitu.model.manifest import Manifest


def require_licence(manifest: Manifest, accepted: bool) -> None:
    """Raise `LicenceNotAccepted`, saying where the terms are, unless they were accepted.

    Accepted is: now, by `INSITU_ACCEPT_LICENSE=1`, or before on this machine (a file in `models_dir()`).
    """
    if not manifest.terms:
        return
    memory = cache.models_dir() / "accepted" / f"{manifest.licence}.txt"
    if memory.is_file() and memory.read_text(encoding="utf-8").strip() == manifest.terms:
        return
    if not accepted and os.environ.get("INSITU_ACCEPT_LICENSE") != "1":
        raise LicenceNotAccepted(
            f"{manifest.title} is under terms of its own: {manifest.terms}\n"
            "Read them. If you accept them, say so once: --accept-license, or INSITU_ACCEPT_LICENSE=1."
        )
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(manifest.terms + "\n", encoding="utf-8")
    except OSError as error:
        raise cache.write_error(error, memory) from error
