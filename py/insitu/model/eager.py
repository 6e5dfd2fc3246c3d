"""A graph that is run while it is built, in float64 and without onnxruntime: what a weight is multiplied by is seen.

onnxruntime's float32 sums differ in their last bits from one kind of CPU to another, and rounded weights must not. In
float64 sums differ too, but no weight is so near to the edge between two codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper
from onnx.reference.ops._op_list import load_op

from insitu.model.graph import OPSET, Array, Graph


class Value(str):
    """A name that holds what it names: who lets go of the one lets go of the other."""

    value: Array


class Eager(Graph):
    """`inputs`: the arrays of the graph's inputs by name. No weight is kept, nothing is put out."""

    def __init__(self, inputs: Mapping[str, Array]) -> None:
        super().__init__()
        self._arrays = inputs

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        return name

    def output(self, source: str, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        pass

    def weight(self, value: Array, name: str) -> str:
        named = Value(name)
        named.value = np.asarray(value)
        return named

    def constant(self, value: Array, stem: str = "c") -> str:
        return self.weight(value, stem)

    def value(self, name: str) -> Array:
        """What a name stands for; float64 where the graph has floats."""
        found: Array = name.value if isinstance(name, Value) else self._arrays[name]
        return found.astype(np.float64) if found.dtype.kind == "f" else found

    def add_many(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        for key in ("unused", "domain", "stem"):
            attributes.pop(key, None)
        values = [self.value(name) for name in inputs]
        if op == "Cast":
            found = values[0].astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        elif op in OWN:
            found = OWN[op](*values, **attributes)
        else:
            found = _run(op, *values, **attributes, **({"n_outputs": outputs} if outputs > 1 else {}))
        return [self.weight(one, op) for one in (found if isinstance(found, (list, tuple)) else [found])]


def _run(op: str, *values: Array, **attributes: Any) -> Any:
    return load_op("", op, OPSET).eval(*values, **attributes)


def _norm(x: Array, weight: Array, epsilon: float, axis: int = -1) -> Any:
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon) * weight


def _fast_gelu(x: Array, bias: Array | float = 0.0) -> Any:
    x = x + bias
    return x / 2 * (1 + np.tanh(x * (0.7978845608028654 + 0.035677408136300125 * x * x)))


def _attention(q: Array, k: Array, v: Array, bias: Array, lengths: Array, num_heads: int) -> Any:
    """Of texts without padding."""
    q, k, v = (
        (x + part).reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)
        for x, part in zip((q, k, v), np.split(bias, 3), strict=True)
    )
    mixed = _run("Softmax", q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5, axis=-1) @ v
    return mixed.swapaxes(1, 2).reshape(len(q), q.shape[2], -1)


def _rotary(x: Array, offset: Array, cosines: Array, sines: Array) -> Any:
    parts = x.reshape(*x.shape[:2], -1, 2, cosines.shape[1])  # batch, tokens, head, half, angle
    a, b = parts[..., 0, :], parts[..., 1, :]
    cosines, sines = cosines[:, None], sines[:, None]
    return np.stack([a * cosines - b * sines, b * cosines + a * sines], axis=3).reshape(x.shape)


OWN: Mapping[str, Callable[..., Any]] = {
    "SimplifiedLayerNormalization": _norm,
    "SkipSimplifiedLayerNormalization": lambda x, y, weight, epsilon: [_norm(x + y, weight, epsilon), x, x, x + y],
    "SkipLayerNormalization": lambda x, y, weight, bias, more, epsilon: _run(
        "LayerNormalization", x + y + more, weight, bias, axis=-1, epsilon=epsilon
    ),
    "FastGelu": _fast_gelu,
    "MultiHeadAttention": _attention,
    "RotaryEmbedding": _rotary,
    "FusedMatMul": lambda a, b, **_: a @ b.swapaxes(-1, -2),
}
