"""An int8 matrix product with one activation scale per token, in plain operators.

Per-tensor scales (onnxruntime's dynamic quantisation) let one text's largest activation set the resolution of all
texts in its batch; a scale per token keeps a vector independent of its neighbours and is closer to float32. Measured
in DESIGN.md, "The graph".
"""

from __future__ import annotations

import numpy as np

from insitu.model.feedback import Float64, round_weights
from insitu.model.graph import MICROSOFT, Graph
from insitu.model.quantise import Float

# Activations are uint8 around this zero point: int8 x int8 has no fast kernel in the WASM build.
ZERO_POINT = 128
# Far below any activation; keeps a token of zeros from dividing by zero.
TINY = 1e-9


# The least value of GELU is -0.16997 (at x = -0.7518), of its tanh form -0.17004 (at -0.7525).
GELU_FLOOR = 0.1701


def linear(graph: Graph, x: str, weight: Float, name: str, smoothing: Float | None = None) -> str:
    """`x @ weight` (K x N, float32) with int8 weights, one scale per column, and per-token uint8 activations.

    The weights become the initializers `<name>.weight` and `<name>.scale`. `smoothing` (K,) divides the channels of x,
    and multiplies the weights that read them.

    x ~ (codes - 128) / 127 * (the token's largest absolute value). Div and QuantizeLinear with a constant scale:
    both have vector kernels in WASM, Round and Cast do not.
    """
    if smoothing is not None:
        x = graph.add("Mul", x, graph.weight((1 / smoothing).astype(np.float32), f"{name}.smoothing"))
        weight = weight * smoothing[:, None]
    largest = graph.add("Max", graph.add("ReduceMax", graph.add("Abs", x), axes=[-1], keepdims=1), graph.floats(TINY))
    return _product(graph, graph.add("Div", x, largest), largest, weight, name, 127, ZERO_POINT)[0]


def linear_after_gelu(graph: Graph, x: str, weight: Float, name: str) -> tuple[str, Float]:
    """(`x @ weight` less a constant, that constant (N,) float32), for an x that GELU made.

    Such an x is nearly one-sided. Shifted by GELU's least value it is never negative and uses all 256 codes instead of
    half of them: x ~ codes / 255 * (the token's largest + floor) - floor. What the shift adds to each column is known.
    """
    shifted = graph.add("Add", x, graph.floats(GELU_FLOOR))
    largest = graph.add("ReduceMax", shifted, axes=[-1], keepdims=1)
    product, rounded = _product(graph, graph.add("Div", shifted, largest), largest, weight, name, 255, 0)
    return product, (-GELU_FLOOR * rounded.sum(axis=0)).astype(np.float32)


def _product(
    graph: Graph, unit: str, largest: str, weight: Float, name: str, levels: int, zero_point: int
) -> tuple[str, Float]:
    """(`unit * largest @ weight`, the weight as its codes have it), `unit` within -1..1 or 0..1."""
    found, scales = round_weights(weight, graph.moments.get(name), _scales, -127, 127, per_block=False)
    codes, scales = found.astype(np.int8), scales[0]
    step, zero = graph.constant(np.array(1 / levels, np.float32)), graph.constant(np.array(zero_point, np.uint8))
    product = graph.add(
        "MatMulIntegerToFloat",
        graph.add("QuantizeLinear", unit, step, zero),
        graph.weight(codes, f"{name}.weight"),
        step,
        graph.weight(scales, f"{name}.scale"),
        zero,
        # Of its own for each product: onnxruntime moves it with the weights where it must make them uint8 (native.py).
        graph.weight(np.array(0, np.int8), f"{name}.zero"),
        domain=MICROSOFT,
    )
    return graph.add("Mul", product, largest), codes.astype(np.float32) * scales


def _scales(weight: Float64, counts: Float64) -> Float64:
    """One for each column, exact in float32."""
    largest: Float = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
    return largest.astype(np.float64)
