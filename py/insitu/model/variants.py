"""The arithmetic of a variant: how its graph multiplies by a weight, and how its token rows are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection

from insitu.model.blocks import linear_in_blocks
from insitu.model.graph import Graph
from insitu.model.linear import linear
from insitu.model.quantise import Float

Linear = Callable[..., str]
"""(graph, x, weight K x N, name, smoothing) -> `x @ weight`; see `insitu.model.linear`."""


def linear_of(variant: str) -> Linear:
    """How a variant multiplies.

    int8: integer products, activations in 8 bits for each token (fast on a CPU). q8, q4: weights in
    blocks of 32 of 8 or 4 bits, activations in float32. fp32: nothing is rounded; the measure of the others.
    """
    known: dict[str, Linear] = {
        "int8": linear,
        "q8": linear_in_blocks(8),
        "q4": linear_in_blocks(4),
        "fp32": plain,
    }
    return known[variant]


def plain(graph: Graph, x: str, weight: Float, name: str, smoothing: Float | None = None) -> str:
    return graph.add("MatMul", x, graph.weight(weight, f"{name}.weight"))


def finer_linear(variant: str, finer: Collection[str]) -> Linear:
    """As the variant multiplies, but the products named in `finer` as `q8` does."""
    usual, fine = linear_of(variant), linear_of("q8")

    def mixed(graph: Graph, x: str, weight: Float, name: str) -> str:
        return (fine if name in finer else usual)(graph, x, weight, name)

    return mixed if finer else usual


def row_bits(variant: str) -> int:
    """Bits of a component of a token row, unless other ones are chosen: 8 with a scale for each row, or 32."""
    return 32 if variant == "fp32" else 8
