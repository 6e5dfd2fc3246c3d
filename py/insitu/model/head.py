"""The end of every graph: from token states to a unit vector of the wanted size, and its int8 codes."""

from __future__ import annotations

import numpy as np

from insitu.errors import ModelCorrupt
from insitu.model.graph import Graph, TensorProto
from insitu.model.quantise import Float

BATCH, DIM = "batch", "dim_wanted"


def token_mask(graph: Graph, count: str) -> str:
    """float32 batch x tokens: 1 for a token, 0 for padding. `count` is int64 [1], tokens in the padded batch."""
    positions = graph.add(
        "Range",
        graph.constant(np.array(0, np.int64)),
        graph.add("Squeeze", count),
        graph.constant(np.array(1, np.int64)),
    )
    row = graph.along("Unsqueeze", graph.add("Cast", positions, to=TensorProto.INT32), 0)
    keep = graph.add("Less", row, graph.along("Unsqueeze", "lengths", 1))
    return graph.add("Cast", keep, to=TensorProto.FLOAT)


def mean_pool(graph: Graph, states: str, mask: str) -> str:
    """batch x size: the mean of each text's token states."""
    count = graph.along("Unsqueeze", graph.add("Cast", "lengths", to=TensorProto.FLOAT), 1)
    weights = graph.along("Unsqueeze", graph.add("Div", mask, count), 1)
    return graph.along("Squeeze", graph.add("MatMul", weights, states), 1)


def pool(graph: Graph, states: str, mask: str, pooling: str) -> str:
    """batch x size: 'mean' of each text's token states, or the state of its first token ('cls')."""
    if pooling == "mean":
        return mean_pool(graph, states, mask)
    if pooling == "cls":
        return graph.along("Squeeze", graph.add("Gather", states, graph.ints(0), axis=1), 1)
    raise ModelCorrupt(f"model.json asks for the pooling {pooling!r}: 'mean' and 'cls' are known.")


def finish(graph: Graph, pooled: str, rotation: Float | None, full_dim: int) -> None:
    """Rotate, cut to `dim`, normalise, make codes; declares the graph's five outputs.

    `rotation` is orthonormal (full_dim x full_dim, rows are the new axes) or None. Codes are symmetric int8 with one
    scale per vector, taken after the cut and the normalisation, so that they use their whole range.
    """
    if rotation is not None:
        pooled = graph.add("MatMul", pooled, graph.half(rotation.T, "rotation"))
    full = graph.add("LpNormalization", pooled, axis=-1, p=2)
    cut = graph.add("Slice", pooled, graph.ints(0), "dim", graph.ints(1))
    vector = graph.add("LpNormalization", cut, axis=-1, p=2)
    graph.output(vector, "embedding", TensorProto.FLOAT, [BATCH, DIM])
    for source, codes_name, scale_name, size in (
        (vector, "codes", "scale", DIM),
        (full, "full_codes", "full_scale", full_dim),
    ):
        largest = graph.along("ReduceMax", graph.add("Abs", source), -1, keepdims=1)
        scale = graph.add("Div", largest, graph.floats(127.0))
        rounded = graph.add("Round", graph.add("Div", source, scale))
        graph.output(graph.add("Cast", rounded, to=TensorProto.INT8), codes_name, TensorProto.INT8, [BATCH, size])
        graph.output(scale, scale_name, TensorProto.FLOAT, [BATCH, 1])
