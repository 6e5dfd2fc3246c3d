"""What a model's matrix products read, learnt without texts: from random tokens in texts of all lengths.

Measured in DESIGN.md, "Rounding": they do better than English texts of one length. Every state counts alike, however
large it is: a few tokens (the first, the last) have states so large that nothing else would be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from insitu.model.eager import Eager
from insitu.model.feedback import Float64
from insitu.model.graph import Array, Graph
from insitu.model.quantise import Float

# Tokens of a text, special ones included. 13 texts of each length: 5,600 tokens.
LENGTHS = (3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
TEXTS = 13

Build = Callable[[Graph, Callable[..., str]], Any]
"""(graph, the matrix product to use) -> built."""


def moments_of(
    build: Build, rows: Callable[[Iterable[int]], Float], row_count: int, prefix: Sequence[int], suffix: Sequence[int],
    on_texts: Callable[[int, int], None],
) -> Mapping[str, Float64]:  # fmt: skip
    """Sums of products of the channels (K x K) that each matrix product reads, by its name.

    `rows`: float32 token rows of ids, (count, size), as the graph takes them; `prefix` and `suffix` stand around each
    text. `on_texts` is called with how many of the lengths are done.
    """
    moments: dict[str, Float64] = {}

    def linear(graph: Eager, x: str, weight: Float, name: str, smoothing: Float | None = None) -> str:
        states = graph.value(x).reshape(-1, len(weight))
        states = states / np.float64(1 if smoothing is None else smoothing)
        states /= np.sqrt(np.square(states).mean(axis=1, keepdims=True) + 1e-9)
        moments[name] = moments.get(name, 0) + states.T @ states
        return graph.add("MatMul", x, graph.constant(weight))

    random = np.random.RandomState(2210)  # its stream is frozen
    for done, length in enumerate(LENGTHS):
        ids = random.randint(0, row_count, (TEXTS, length))
        ids[:, : len(prefix)], ids[:, length - len(suffix) :] = prefix, suffix
        found = rows(ids.ravel()).reshape(TEXTS, length, -1)
        inputs: dict[str, Array] = {"rows": found, "row_scales": np.ones((TEXTS, length, 1)), "dim": np.array([1])}
        build(Eager(inputs | {"lengths": np.full(TEXTS, length, np.int32)}), linear)
        on_texts(done + 1, len(LENGTHS))
    return moments
