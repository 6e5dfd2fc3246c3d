"""An int8 matrix product with one activation scale per token, in plain operators.

Per-tensor scales (onnxruntime's dynamic quantisation) let one text's largest activation set the resolution of all
texts in its batch; a scale per token keeps a vector independent of its neighbours and is closer to float32. Measured
in DESIGN.md, "The graph".
"""

from __future__ import annotations

import numpy as np

from insitu.model.graph import MICROSOFT, Graph
from insitu.model.quantise import Float, quantise_columns

# Activations are uint8 around this zero point: int8 x int8 has no fast kernel in the WASM build.
ZERO_POINT = np.uint8(128)
# Far below any activation; keeps a token of zeros from dividing by zero.
TINY = 1e-9


def quantise_tokens(graph: Graph, x: str) -> tuple[str, str]:
    """(uint8 codes, the largest absolute value per token); x ~ (codes - 128) / 127 * largest.

    Div and QuantizeLinear with a constant scale: both have vector kernels in WASM, Round and Cast do not.
    """
    largest = graph.add("Max", graph.add("ReduceMax", graph.add("Abs", x), axes=[-1], keepdims=1), graph.floats(TINY))
    unit = graph.add("Div", x, largest)
    codes = graph.add(
        "QuantizeLinear", unit, graph.constant(np.float32(1 / 127)), graph.constant(np.array(ZERO_POINT, np.uint8))
    )
    return codes, largest


def linear(graph: Graph, x: str, weight: Float) -> str:
    """`x @ weight` (K x N, float32) with int8 weights, one scale per column, and per-token uint8 activations."""
    codes, scales = quantise_columns(weight)
    quantised, largest = quantise_tokens(graph, x)
    product = graph.add(
        "MatMulIntegerToFloat",
        quantised,
        graph.constant(codes, "weight"),
        graph.constant(np.float32(1 / 127)),
        graph.constant(scales, "weight_scale"),
        graph.constant(np.array(ZERO_POINT, np.uint8)),
        graph.constant(np.array(0, np.int8)),
        domain=MICROSOFT,
    )
    return graph.add("Mul", product, largest)
