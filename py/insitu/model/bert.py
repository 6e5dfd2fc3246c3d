"""BERT encoders (Devlin et al., 2018, arXiv:1810.04805) as a graph over token rows, with int8 matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from insitu.errors import ModelCorrupt
from insitu.model import head
from insitu.model.graph import MICROSOFT, Graph, TensorProto
from insitu.model.linear import linear as int8
from insitu.model.linear import linear_after_gelu
from insitu.model.quantise import Float

Tensors = Mapping[str, Float]


# The word embeddings, vocabulary x size: they become the token rows outside the graph.
TABLE = "embeddings.word_embeddings.weight"


def row_factor(config: Mapping[str, Any]) -> float:
    """What token rows are multiplied by."""
    return 1.0


def build(
    tensors: Tensors,
    config: Mapping[str, Any],
    rotation: Float | None,
    smoothing: Mapping[str, Float],
    max_tokens: int,
    pooling: str,
    graph: Graph | None = None,
    linear: Callable[..., str] = int8,
    row_bits: int = 8,
) -> onnx.ModelProto:
    """The graph of DESIGN.md, "An exported model". Raises `ModelCorrupt` if a tensor is missing or misshapen.

    `rotation`: see `insitu.model.rotation`; `smoothing`: factors (size,) by matrix product, see
    `insitu.model.smoothing`; `pooling`: see `insitu.model.head`. It is built into `graph` (a new one if not given);
    `linear` makes the matrix products; `row_bits`: see `ModelLock`.
    """
    size, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    layers, epsilon = int(config["num_hidden_layers"]), float(config["layer_norm_eps"])
    if config.get("hidden_act") != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelCorrupt(f"config.json asks for {config.get('hidden_act')!r} activations: only BERT's gelu is known.")
    graph = graph or Graph()

    def tensor(name: str, *shape: int) -> Float:
        if name not in tensors or tensors[name].shape != shape:
            found = tensors[name].shape if name in tensors else "nothing"
            raise ModelCorrupt(f"model.safetensors: {name} should have shape {shape}, found {found}.")
        return tensors[name]

    def norm(source: str, name: str) -> tuple[str, str]:
        weight, bias = tensor(f"{source}.weight", size), tensor(f"{source}.bias", size)
        return graph.weight(weight, f"{name}.weight"), graph.weight(bias, f"{name}.bias")

    def add_norm(x: str, residual: str, bias: str, norms: tuple[str, str]) -> str:
        fused = [x, residual, *norms, bias]
        return graph.add("SkipLayerNormalization", *fused, domain=MICROSOFT, epsilon=epsilon)

    graph.input("rows", TensorProto.INT8 if row_bits == 8 else TensorProto.FLOAT, [head.BATCH, "tokens", size])
    graph.input("row_scales", TensorProto.FLOAT, [head.BATCH, "tokens", 1])
    graph.input("lengths", TensorProto.INT32, [head.BATCH])
    graph.input("dim", TensorProto.INT64, [1])

    count = graph.add("Slice", graph.add("Shape", "rows"), graph.ints(1), graph.ints(2))
    words = graph.add("Mul", graph.add("Cast", "rows", to=TensorProto.FLOAT), "row_scales")
    # One text is one segment: its type embedding is a constant of every position.
    types = tensor("embeddings.token_type_embeddings.weight", int(config["type_vocab_size"]), size)
    places = tensor("embeddings.position_embeddings.weight", int(config["max_position_embeddings"]), size)
    places = np.ascontiguousarray(places[:max_tokens] + types[0])
    places_now = graph.add("Slice", graph.half(places, "positions"), graph.ints(0), count, graph.ints(0))
    summed = graph.add("Add", words, places_now)
    x = graph.add("LayerNormalization", summed, *norm("embeddings.LayerNorm", "norm"), axis=-1, epsilon=epsilon)
    inner = int(config["intermediate_size"])
    for layer in range(layers):
        source, name = f"encoder.layer.{layer}", f"layer.{layer}"
        parts = [f"{source}.attention.self.{part}" for part in ("query", "key", "value")]
        weights = np.concatenate([tensor(f"{part}.weight", size, size).T for part in parts], axis=1)
        biases = np.concatenate([tensor(f"{part}.bias", size) for part in parts])
        sides = linear(graph, x, weights, f"{name}.qkv", smoothing.get(f"{name}.qkv"))
        q, k, v = graph.add_many("Split", sides, graph.ints(size, size, size), outputs=3, axis=-1)
        bias = graph.weight(biases, f"{name}.qkv.bias")
        mixed = graph.add("MultiHeadAttention", q, k, v, bias, "lengths", domain=MICROSOFT, num_heads=heads)
        dense = f"{source}.attention.output"
        mixed = linear(graph, mixed, tensor(f"{dense}.dense.weight", size, size).T, f"{name}.out")
        bias = graph.weight(tensor(f"{dense}.dense.bias", size), f"{name}.out.bias")
        x = add_norm(mixed, x, bias, norm(f"{dense}.LayerNorm", f"{name}.out.norm"))
        dense = f"{source}.intermediate"
        widen = tensor(f"{dense}.dense.weight", inner, size).T
        up = linear(graph, x, widen, f"{name}.up", smoothing.get(f"{name}.up"))
        bias = graph.weight(tensor(f"{dense}.dense.bias", inner), f"{name}.up.bias")
        # FastGelu is the tanh form (Hendrycks & Gimpel, 2016, arXiv:1606.08415): a third cheaper here than erf, and
        # the int8 codes of its result hide the difference (at most 0.0005).
        up = graph.add("FastGelu", up, bias, domain=MICROSOFT)
        dense = f"{source}.output"
        weight = tensor(f"{dense}.dense.weight", size, inner).T
        if linear is int8:
            down, shift = linear_after_gelu(graph, up, weight, f"{name}.down")
        else:
            down, shift = linear(graph, up, weight, f"{name}.down"), np.zeros(size, np.float32)
        bias = graph.weight(tensor(f"{dense}.dense.bias", size) + shift, f"{name}.down.bias")
        x = add_norm(down, x, bias, norm(f"{dense}.LayerNorm", f"{name}.down.norm"))
    pooled = head.pool(graph, x, head.token_mask(graph, count), pooling)
    head.finish(graph, pooled, rotation, size)
    encoder = {"family": "bert", "layers": layers, "heads": heads, "epsilon": epsilon, "pooling": pooling}
    return graph.build("insitu-bert", "token rows in, unit vector and int8 codes out", encoder)
