"""The texts that are measured: running English from the licence in this repository, cut by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "LICENSE"


def _words() -> list[str]:
    return SOURCE.read_text(encoding="utf-8").split()


def passages(count: int = 64, shortest: int = 20, longest: int = 200, seed: int = 2) -> list[str]:
    """`count` texts of `shortest` to `longest` words, every length equally likely, in random order."""
    draw, words = random.Random(seed), _words()
    texts = []
    for _ in range(count):
        size = draw.randint(shortest, longest)
        start = draw.randrange(len(words) - size)
        texts.append(" ".join(words[start : start + size]))
    return texts


def queries(count: int, tokens: Callable[[str], int], size: int = 16, seed: int = 16) -> list[str]:
    """`count` different texts that `tokens` (special ones included) counts as exactly `size`."""
    draw, words = random.Random(seed), _words()
    found: dict[str, None] = {}
    while len(found) < count:
        length = draw.randint(size // 2, size - 2)
        start = draw.randrange(len(words) - length)
        text = " ".join(words[start : start + length])
        if tokens(text) == size:
            found[text] = None
    return list(found)
