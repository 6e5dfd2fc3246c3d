"""The graph that transformers.js users get for all-MiniLM-L6-v2: token ids in, `last_hidden_state` out.

Written node for node as PyTorch's exporter writes BERT (opset 14, constants folded): LayerNorm and GELU in single
steps, one MatMul and one Add for each projection. Then quantised as the models of transformers.js on the hub are. Its
`scripts/convert.py` takes, for BERT: onnxruntime's dynamic quantiser over every integer operator (the embedding
tables too), weights signed (QInt8), per channel, `reduce_range`, and only products with a constant right side.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 14
HEADS = 12
LAYERS = 6
EPSILON = 1e-12

Weights = dict[str, npt.NDArray[Any]]


class _Graph:
    """Nodes and constants in the order they are needed."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_output_0"], name=name, **attributes))
        return f"{name}_output_0"

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(f"scalar_{value}", np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def linear(self, x: str, name: str) -> str:
        product = self.op("MatMul", x, self.constant(f"{name}.weight_t", self.weights[f"{name}.weight"].T))
        return self.op("Add", self.weight(f"{name}.bias"), product)

    def norm(self, x: str, name: str) -> str:
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.scalar(2.0)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", variance, self.scalar(EPSILON)))
        scaled = self.op("Mul", self.op("Div", centred, root), self.weight(f"{name}.weight"))
        return self.op("Add", scaled, self.weight(f"{name}.bias"))

    def gelu(self, x: str) -> str:
        erf = self.op("Erf", self.op("Div", x, self.scalar(math.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.scalar(1.0))), self.scalar(0.5))

    def heads(self, x: str, size: int, order: list[int]) -> str:
        return self.op("Transpose", self.op("Reshape", x, self.ints(0, 0, HEADS, size)), perm=order)


def _layer(graph: _Graph, x: str, mask: str, name: str, width: int) -> str:
    size = width // HEADS
    attention = f"{name}.attention"
    query = graph.heads(graph.linear(x, f"{attention}.self.query"), size, [0, 2, 1, 3])
    key = graph.heads(graph.linear(x, f"{attention}.self.key"), size, [0, 2, 3, 1])
    value = graph.heads(graph.linear(x, f"{attention}.self.value"), size, [0, 2, 1, 3])
    scores = graph.op("Div", graph.op("MatMul", query, key), graph.scalar(math.sqrt(size)))
    weights = graph.op("Softmax", graph.op("Add", scores, mask), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 1, 3])
    mixed = graph.op("Reshape", mixed, graph.ints(0, 0, width))
    attended = graph.op("Add", graph.linear(mixed, f"{attention}.output.dense"), x)
    attended = graph.norm(attended, f"{attention}.output.LayerNorm")
    inner = graph.gelu(graph.linear(attended, f"{name}.intermediate.dense"))
    return graph.norm(
        graph.op("Add", graph.linear(inner, f"{name}.output.dense"), attended), f"{name}.output.LayerNorm"
    )


def build(weights: Weights) -> onnx.ModelProto:
    """The float32 graph of the BERT whose tensors are `weights` (float32, named as in model.safetensors)."""
    graph = _Graph(weights)
    table = "embeddings.word_embeddings.weight"
    width = weights[table].shape[1]
    length = graph.op("Gather", graph.op("Shape", "input_ids"), graph.ints(1), axis=0)
    positions = np.arange(weights["embeddings.position_embeddings.weight"].shape[0])[None]
    ids = graph.op("Slice", graph.constant("position_ids", positions), graph.ints(0), length, graph.ints(1))
    x = graph.op("Gather", graph.weight(table), "input_ids")
    kinds = graph.op("Gather", graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    places = graph.op("Gather", graph.weight("embeddings.position_embeddings.weight"), ids)
    x = graph.norm(graph.op("Add", graph.op("Add", x, kinds), places), "embeddings.LayerNorm")
    kept = graph.op("Cast", graph.op("Unsqueeze", "attention_mask", graph.ints(1, 2)), to=TensorProto.FLOAT)
    lowest = graph.scalar(float(np.finfo(np.float32).min))
    mask = graph.op("Mul", graph.op("Sub", graph.scalar(1.0), kept), lowest)
    for index in range(LAYERS):
        x = _layer(graph, x, mask, f"encoder.layer.{index}", width)
    graph.nodes[-1].output[0] = "last_hidden_state"
    shape = ["batch_size", "sequence_length"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "torch_jit",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, shape)
                for name in ("input_ids", "attention_mask", "token_type_ids")
            ],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, width])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def load_weights(path: Path) -> Weights:
    """The float32 tensors of a safetensors file."""
    from safetensors.numpy import load_file

    return {name: value.astype(np.float32) for name, value in load_file(path).items() if value.dtype != np.int64}


def write(source: Path, float_path: Path, quantised_path: Path) -> None:
    """Write the float32 graph and its dynamic int8 twin from `source` (model.safetensors)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    onnx.save_model(build(load_weights(source)), float_path)
    quantize_dynamic(
        float_path,
        quantised_path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
    )


def pooled(hidden: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Mean over the kept tokens, then unit length, as the feature-extraction pipeline does. float32 batch x width."""
    kept = mask[..., None].astype(np.float32)
    mean = (hidden * kept).sum(1) / kept.sum(1)
    result: npt.NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return result


def check(float_path: Path, quantised_path: Path, golden: Path) -> None:
    """Raise ValueError unless both graphs give what sentence-transformers gave (`golden`: see tests/make_golden.py).

    Mean cosines: at least 0.9999 in float32, and 0.98 in int8, which loses about a hundredth as the hub's does.
    """
    import onnxruntime

    cases = json.loads(golden.read_text(encoding="utf-8"))["cases"]
    for path, wanted in ((float_path, 0.9999), (quantised_path, 0.98)):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        cosines = []
        for case in cases:
            ids = np.array([case["token_ids"]], np.int64)
            mask = np.ones_like(ids)
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            vector = pooled(session.run(["last_hidden_state"], feeds)[0], mask)[0]
            right = np.frombuffer(base64.b64decode(case["embedding"]), "<f2").astype(np.float32)
            cosines.append(float(vector @ right))
        if not np.mean(cosines) >= wanted:
            raise ValueError(f"{path.name}: mean cosine {np.mean(cosines):.4f} to the reference, not {wanted}.")
