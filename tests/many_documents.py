"""Exports of many documents, made without embedding any: one passage each, with the vectors that are given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH = 4096


def write_export(
    path: Path,
    space: str,
    codes: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    fields: Mapping[str, str],
    document: Callable[[int], dict[str, Any]],
) -> None:
    """`codes`: n x dim, a document each; `document`: id, text, fields of one, by its number. docs/collections.md."""
    sha = hashlib.sha256()
    with path.open("wb") as file:

        def write(data: bytes) -> None:
            sha.update(data)
            file.write(data)

        count, dim = codes.shape
        header = {"space": space, "dim": dim, "full": 0, "fields": fields, "documents": count}
        write(json.dumps({"format": "insitu-collection", "version": 1, **header}).encode() + b"\n")
        for first in range(0, count, BATCH):
            end = min(count, first + BATCH)
            documents = [_whole(n, document(n)) for n in range(first, end)]
            write(json.dumps({"documents": documents, "rows": end - first}).encode() + b"\n")
            write(codes[first:end].tobytes() + scales[first:end].astype("<f4").tobytes())
        file.write(json.dumps({"end": True, "sha256": sha.hexdigest()}).encode() + b"\n")


def _whole(number: int, given: dict[str, Any]) -> dict[str, Any]:
    rest = {"title": "", "fields": {}, "cuts": [0, len(given["text"])], "hash": f"{number:032x}", "rows": 1}
    return rest | given
