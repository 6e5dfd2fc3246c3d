"""Gemma 3 text encoders with bidirectional attention (EmbeddingGemma, arXiv:2509.20354) as a graph over token rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from insitu.errors import ModelCorrupt
from insitu.model import head
from insitu.model.graph import MICROSOFT, Graph, TensorProto
from insitu.model.quantise import Float
from insitu.model.variants import Linear

Tensors = Mapping[str, Float]

# Added to the scores of what a token does not see. Finite: a padded token may see nothing, and must not become NaN.
UNSEEN = -1e30
TABLE = "embed_tokens.weight"


def row_factor(config: Mapping[str, Any]) -> float:
    """Token rows are multiplied by the root of their size (Vaswani et al., 2017, arXiv:1706.03762, 3.4)."""
    return math.sqrt(config["hidden_size"])


def products(config: Mapping[str, Any]) -> list[str]:
    """The names of the matrix products that `linear` makes."""
    return [
        f"layer.{layer}.{part}"
        for layer in range(int(config["num_hidden_layers"]))
        for part in ("qkv", "out", "up", "down")
    ]


def check(config: Mapping[str, Any]) -> None:
    """Raise `ModelCorrupt` if config.json describes a Gemma that this graph is not."""
    wanted = {
        "hidden_activation": "gelu_pytorch_tanh",
        "use_bidirectional_attention": True,
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    }
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ModelCorrupt(f"config.json has {key} = {config[key]!r}: only {value!r} is known here.")
    if not config.get("use_bidirectional_attention"):
        raise ModelCorrupt("config.json describes a Gemma that generates text, not one that embeds it.")


def layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """'sliding_attention' or 'full_attention' for each layer: as config.json lists them, or every sixth full."""
    layers = int(config["num_hidden_layers"])
    kinds = config.get("layer_types")
    if kinds is None:
        period = int(config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6)
        kinds = ["sliding_attention" if (layer + 1) % period else "full_attention" for layer in range(layers)]
    if len(kinds) != layers or not {*kinds} <= {"sliding_attention", "full_attention"}:
        raise ModelCorrupt(f"config.json lists the layer types {kinds!r} for {layers} layers.")
    return list(kinds)


def rope_bases(config: Mapping[str, Any]) -> dict[str, float]:
    """The base of the rotary angles (Su et al., 2021, arXiv:2104.09864) by layer kind; old and new config keys."""
    new = config.get("rope_parameters") or {}
    full = new.get("full_attention", {}).get("rope_theta", config.get("rope_theta", 1_000_000.0))
    sliding = new.get("sliding_attention", {}).get("rope_theta", config.get("rope_local_base_freq", 10_000.0))
    return {"full_attention": float(full), "sliding_attention": float(sliding)}


def build(
    tensors: Tensors,
    config: Mapping[str, Any],
    dense: Float | None,
    linear: Linear,
    row_bits: int,
    graph: Graph | None = None,
) -> onnx.ModelProto:
    """The graph of DESIGN.md, "An exported model". Raises `ModelCorrupt` if a tensor is missing or misshapen.

    `dense` (full_dim x size) comes after pooling: the product of the model's Dense layers, which have neither bias nor
    activation. `linear` makes each matrix product; `row_bits`: see `ModelLock`. It is built into `graph`, a new one if
    not given.
    """
    check(config)
    size, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads, head_dim = int(config["num_attention_heads"]), int(config["head_dim"])
    if int(config["num_key_value_heads"]) != 1:
        raise ModelCorrupt(f"config.json has {config['num_key_value_heads']} key/value heads: only 1 is known here.")
    epsilon = float(config["rms_norm_eps"])
    # transformers makes the window of a bidirectional model (w // 2) + 1 to each side, itself counted.
    reach = int(config["sliding_window"]) // 2
    scale = float(config.get("query_pre_attn_scalar") or head_dim) ** -0.5
    graph = graph or Graph()

    def tensor(name: str, *shape: int) -> Float:
        found = tensors.get(name)
        if found is None or found.shape != shape:
            what = "nothing" if found is None else found.shape
            raise ModelCorrupt(f"model.safetensors: {name} should have shape {shape}, found {what}.")
        return found

    def gain(source: str, name: str, length: int = size, factor: float = 1.0) -> str:
        return graph.weight((1 + tensor(f"{source}.weight", length)) * np.float32(factor), f"{name}.weight")

    def norm(x: str, weight: str) -> str:
        return graph.add("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=epsilon)

    def add_norm(x: str, residual: str, weight: str) -> tuple[str, str]:
        """(the sum, normalised; the sum)"""
        outputs = graph.add_many(
            "SkipSimplifiedLayerNormalization", x, residual, weight,
            outputs=4, unused=(1, 2), domain=MICROSOFT, epsilon=epsilon,
        )  # fmt: skip
        return outputs[0], outputs[3]

    graph.input("rows", TensorProto.INT8 if row_bits == 8 else TensorProto.FLOAT, [head.BATCH, "tokens", size])
    graph.input("row_scales", TensorProto.FLOAT, [head.BATCH, "tokens", 1])
    graph.input("lengths", TensorProto.INT32, [head.BATCH])
    graph.input("dim", TensorProto.INT64, [1])
    shape = graph.add("Shape", "rows")
    batch = graph.add("Slice", shape, graph.ints(0), graph.ints(1))
    count = graph.add("Slice", shape, graph.ints(1), graph.ints(2))
    mask = head.token_mask(graph, count)
    unseen = _unseen(graph, mask, count, reach)
    angles = {kind: _angles(graph, count, base, head_dim) for kind, base in rope_bases(config).items()}
    offset = graph.ints(0)
    by_head = graph.ints(0, 0, heads, head_dim)
    # Every head reads the same keys and values: all heads of all tokens are rows of one product.
    stacked = graph.add("Concat", batch, graph.ints(-1, head_dim), axis=0)
    scores_by_head = graph.add("Concat", batch, count, graph.ints(heads), count, axis=0)
    scores_stacked = graph.add("Concat", batch, graph.ints(-1), count, axis=0)
    joined = graph.ints(0, -1, heads * head_dim)

    def turn(x: str, kind: str) -> str:
        return graph.add("RotaryEmbedding", x, offset, *angles[kind], domain=MICROSOFT)

    hidden = graph.add("Mul", graph.add("Cast", "rows", to=TensorProto.FLOAT), "row_scales")
    x = norm(hidden, gain("layers.0.input_layernorm", "layer.0.norm"))
    kinds = layer_kinds(config)
    for layer, kind in enumerate(kinds):
        source, name = f"layers.{layer}", f"layer.{layer}"
        attention = f"{source}.self_attn"
        q_weight = tensor(f"{attention}.q_proj.weight", heads * head_dim, size)
        k_weight, v_weight = (tensor(f"{attention}.{part}_proj.weight", head_dim, size) for part in "kv")
        sides = linear(graph, x, np.concatenate([q_weight, k_weight, v_weight]).T, f"{name}.qkv")
        parts = graph.ints(heads * head_dim, head_dim, head_dim)
        q, k, v = graph.add_many("Split", sides, parts, outputs=3, axis=-1)
        q_gain = gain(f"{attention}.q_norm", f"{name}.q_norm", head_dim, scale)
        q = graph.add("Reshape", norm(graph.add("Reshape", q, by_head), q_gain), joined)
        q = graph.add("Reshape", turn(q, kind), stacked)
        k = turn(norm(k, gain(f"{attention}.k_norm", f"{name}.k_norm", head_dim)), kind)
        scores = graph.add("FusedMatMul", q, k, domain=MICROSOFT, transB=1)
        scores = graph.add("Add", graph.add("Reshape", scores, scores_by_head), unseen[kind])
        weights = graph.add("Reshape", graph.add("Softmax", scores, axis=-1), scores_stacked)
        mixed = graph.add("Reshape", graph.add("MatMul", weights, v), joined)
        mixed = linear(graph, mixed, tensor(f"{attention}.o_proj.weight", size, heads * head_dim).T, f"{name}.out")
        mixed = norm(mixed, gain(f"{source}.post_attention_layernorm", f"{name}.out.norm"))
        x, hidden = add_norm(mixed, hidden, gain(f"{source}.pre_feedforward_layernorm", f"{name}.up.norm"))
        gate, up = (tensor(f"{source}.mlp.{part}_proj.weight", inner, size) for part in ("gate", "up"))
        both = linear(graph, x, np.concatenate([gate, up]).T, f"{name}.up")
        opened, raised = graph.add_many("Split", both, graph.ints(inner, inner), outputs=2, axis=-1)
        inside = graph.add("Mul", graph.add("FastGelu", opened, domain=MICROSOFT), raised)
        down = linear(graph, inside, tensor(f"{source}.mlp.down_proj.weight", size, inner).T, f"{name}.down")
        down = norm(down, gain(f"{source}.post_feedforward_layernorm", f"{name}.down.norm"))
        following = f"layers.{layer + 1}.input_layernorm" if layer + 1 < len(kinds) else "norm"
        x, hidden = add_norm(down, hidden, gain(following, f"layer.{layer + 1}.norm"))
    head.finish(graph, head.mean_pool(graph, x, mask), dense, size if dense is None else len(dense))
    bases = rope_bases(config)
    encoder = {
        "family": "gemma",
        "layers": len(kinds),
        "heads": heads,
        "epsilon": epsilon,
        # For each layer: how many tokens to each side are seen (0: all), and the base of the rotary angles.
        "reach": [reach if kind == "sliding_attention" else 0 for kind in kinds],
        "bases": [bases[kind] for kind in kinds],
    }
    return graph.build("insitu-gemma", "token rows in, unit vector and int8 codes out", encoder)


def _unseen(graph: Graph, mask: str, count: str, reach: int) -> dict[str, str]:
    """What is added to the scores, by layer kind, broadcast over batch x tokens x heads x tokens."""
    padding = graph.add("Mul", graph.add("Sub", graph.floats(1), mask), graph.floats(UNSEEN))
    padding = graph.add("Unsqueeze", padding, graph.ints(1, 2))
    far = graph.add("Greater", _distances(graph, count), graph.constant(np.array(reach, np.int64)))
    window = graph.add("Mul", graph.add("Cast", far, to=TensorProto.FLOAT), graph.floats(UNSEEN))
    window = graph.add("Unsqueeze", window, graph.ints(0, 2))
    return {"full_attention": padding, "sliding_attention": graph.add("Min", padding, window)}


def _positions(graph: Graph, count: str) -> str:
    zero, one = (graph.constant(np.array(value, np.int64)) for value in (0, 1))
    return graph.add("Range", zero, graph.add("Squeeze", count), one)


def _distances(graph: Graph, count: str) -> str:
    """int64 tokens x tokens."""
    positions = _positions(graph, count)
    row, column = (graph.add("Unsqueeze", positions, graph.ints(axis)) for axis in (0, 1))
    return graph.add("Abs", graph.add("Sub", row, column))


def _angles(graph: Graph, count: str, base: float, head_dim: int) -> tuple[str, str]:
    """(cosines, sines), tokens x head_dim / 2 each."""
    frequencies = base ** -(np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    positions = graph.add("Cast", _positions(graph, count), to=TensorProto.FLOAT)
    angles = graph.add(
        "Mul", graph.add("Unsqueeze", positions, graph.ints(1)), graph.constant(frequencies.astype(np.float32)[None])
    )
    return graph.add("Cos", angles), graph.add("Sin", angles)
