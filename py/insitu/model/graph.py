"""A thin builder of ONNX graphs: names are made here, constants become initializers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# com.microsoft holds onnxruntime's fused kernels; its native and WASM builds both have those used here.
MICROSOFT = "com.microsoft"
OPSET = 17
IR_VERSION = 9
# See DESIGN.md, "The encoder of the page".
ENCODER = "insitu.encoder"

Array = NDArray[Any]


class Graph:
    """Nodes in order; `add` gives the name of a node's first output.

    `opset` is the version of the operators' meaning, `prefix` begins each name that is made here: for a part that joins
    a graph written by somebody else (`join`). `moments`: by the name of a matrix product, what `insitu.model.calibrate`
    saw it read.
    """

    def __init__(self, opset: int = OPSET, prefix: str = "", moments: Mapping[str, Array] | None = None) -> None:
        self.moments = moments or {}
        self._opset = opset
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{self._prefix}{stem}_{self._count}"

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, source: str, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        self._nodes.append(helper.make_node("Identity", [source], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def weight(self, value: Array, name: str) -> str:
        """An initializer under exactly this name, for who looks into the file."""
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def half(self, value: Array, name: str) -> str:
        """The same, kept as float16 and cast when the model is opened: half the bytes, 11 bits of mantissa."""
        return self.add("Cast", self.weight(value.astype(np.float16), name), to=TensorProto.FLOAT)

    def constant(self, value: Array, stem: str = "c") -> str:
        """An initializer; small equal ones are shared."""
        value = np.ascontiguousarray(value)
        key = (str(value.dtype), value.shape, value.tobytes()) if value.size <= 16 else None
        if key is not None and key in self._shared:
            return self._shared[key]
        name = self._name(stem)
        self._constants.append(numpy_helper.from_array(value, name))
        if key is not None:
            self._shared[key] = name
        return name

    def add(self, op: str, *inputs: str, domain: str = "", stem: str | None = None, **attributes: Any) -> str:
        return self.add_many(op, *inputs, outputs=1, domain=domain, stem=stem, **attributes)[0]

    def add_many(
        self,
        op: str,
        *inputs: str,
        outputs: int,
        unused: Sequence[int] = (),
        domain: str = "",
        stem: str | None = None,
        **attributes: Any,
    ) -> list[str]:
        """The names of all outputs; those at the positions `unused` are not asked for and have the name ''."""
        names = ["" if i in unused else self._name(stem or op.lower()) for i in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=names[0], domain=domain, **attributes))
        return names

    def add_as(self, name: str, op: str, *inputs: str, **attributes: Any) -> None:
        """A node whose output has exactly this name, for a graph that waits for it."""
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))

    def along(self, op: str, x: str, *axes: int, **attributes: Any) -> str:
        """Squeeze, Unsqueeze or ReduceMax along `axes`, an attribute in older opsets and an input in newer ones."""
        if self._opset < (18 if op == "ReduceMax" else 13):
            return self.add(op, x, axes=list(axes), **attributes)
        return self.add(op, x, self.ints(*axes), **attributes)

    def floats(self, *values: float) -> str:
        return self.constant(np.array(values, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def join(self, graph: onnx.GraphProto, *, first: bool) -> None:
        """Put these nodes before or behind those of `graph`, with their constants, inputs and outputs."""
        nodes = [*self._nodes, *graph.node] if first else [*graph.node, *self._nodes]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self._constants)
        graph.input.extend(self._inputs)
        graph.output.extend(self._outputs)

    def build(self, name: str, doc: str, encoder: Mapping[str, Any]) -> onnx.ModelProto:
        """The model.

        `encoder` becomes the metadata `ENCODER` (JSON): in a few numbers what the nodes are, for the encoder of the
        page, which runs the graph by this and by the names of its weights.
        """
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants, doc_string=doc)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="insitu")
        helper.set_model_props(model, {ENCODER: json.dumps(encoder)})
        return model


__all__ = ["MICROSOFT", "Graph", "TensorProto"]
