"""The identity of an embedding space: vectors are comparable only within one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from insitu.errors import SpaceMismatch


@dataclass(frozen=True)
class Space:
    """Everything that decides a vector. `name` is stored with each index and export.

    `weights` is a SHA-256 (hex) over the source weights, the rotation and the export's version; `prompts` one over the
    prompt set; `dim` the number of components.
    """

    model: str
    variant: str
    weights: str
    prompts: str
    dim: int

    @property
    def name(self) -> str:
        return f"{self.model}:{self.variant}:{self.dim}:{self.weights[:12]}:{self.prompts[:8]}"

    def asks(self, other_name: str) -> bool:
        """Whether questions of this space find what the vectors of `other_name` stand for: the variants may differ
        (DESIGN.md, "Which variant")."""
        return _bare(other_name) == _bare(self.name)

    def require(self, other_name: str, what: str) -> None:
        """Raise `SpaceMismatch`, naming both, unless this space `asks` the other. `what` owns the other."""
        if not self.asks(other_name):
            raise SpaceMismatch(
                f"{what} holds vectors of the space {other_name!r}, but the open model makes {self.name!r}. "
                "Index again with this model, or open the model that made it."
            )


def _bare(name: str) -> list[str]:
    """The name of a space without the variant."""
    parts = name.split(":")
    return parts[:1] + parts[2:]


def hash_prompts(prompts: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a prompt set, independent of its order."""
    return hashlib.sha256(json.dumps(dict(sorted(prompts.items())), ensure_ascii=True).encode()).hexdigest()
