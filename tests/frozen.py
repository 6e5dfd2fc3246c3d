"""Exports that `make_frozen_export.py` wrote once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FROZEN = Path(__file__).resolve().parent / "data/export-v1"
PASSPHRASE = "open sesame"
FOUND = {"car": 20260105, "cat": 3, "plain": None, "tax": 20250531, "\ud800 any \U0001f600": 0.5}
"""The value of the field `date` of each document."""


def of_space(space: str) -> bytes:
    """The plain file as a model of `space` would have written it: its vectors are those of the tests' fake model."""
    head, _, rest = (FROZEN / "plain.insitu").read_bytes().partition(b"\n")
    header = json.dumps(json.loads(head) | {"space": space}).encode() + b"\n"
    end = rest.rindex(b'{"end"')
    sha = hashlib.sha256(header + rest[:end]).hexdigest()
    return header + rest[:end] + json.dumps({"end": True, "sha256": sha}).encode() + b"\n"
