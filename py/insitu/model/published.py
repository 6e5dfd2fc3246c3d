"""A published ONNX file as an insitu graph: inputs and head are put around it, its weights stay where they are.

What is read: graphs that take `input_ids` and `attention_mask` (and perhaps `token_type_ids`) and give either
`sentence_embedding`, batch x size, or `last_hidden_state`, batch x tokens x size, as optimum and transformers.js write
them. See DESIGN.md, "A published graph".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto

from insitu.errors import ModelCorrupt
from insitu.model import head
from insitu.model.graph import Graph

# Before opset 11 there is no Range.
LEAST_OPSET = 11
# Names of our inputs and outputs, which a published graph may use for something else.
OURS = ("ids", "lengths", "dim", "embedding", "codes", "scale", "full_codes", "full_scale")
POOLED, STATES = ("sentence_embedding",), ("last_hidden_state", "token_embeddings")


def wrap(path: Path, full_dim: int, pooling: str) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph in `path` with the inputs `ids`, `lengths`, `dim` and the outputs of DESIGN.md, "An exported model".

    `pooling` is 'graph' for a file that pools (its output `sentence_embedding` is taken), or 'mean' or 'cls' of its
    token states. Also returns the names of the data files that must lie beside it. They are looked at, not read. Raises
    `ModelCorrupt` if `path` is no such graph or a data file is missing or cut.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own kind
        raise ModelCorrupt(f"{path} is no ONNX file, or it is cut ({error}). Fetch it again.") from error
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise ModelCorrupt(f"{path} has opset {opset}: {LEAST_OPSET} is the least known here. Take a newer export.")
    data = _check_data(graph, path)
    _rename(graph, {name: f"published.{name}" for name in OURS})
    stored = {tensor.name for tensor in graph.initializer}
    inputs = {entry.name: entry for entry in graph.input if entry.name not in stored}
    output = _output(graph, path, full_dim, pooling)
    del graph.input[:], graph.output[:]

    before = Graph(opset, "insitu.in.")
    before.input("ids", TensorProto.INT32, [head.BATCH, "tokens"])
    before.input("lengths", TensorProto.INT32, [head.BATCH])
    before.input("dim", TensorProto.INT64, [1])
    count = before.add("Slice", before.add("Shape", "ids"), before.ints(1), before.ints(2))
    mask = head.token_mask(before, count)
    sources = {"input_ids": "ids", "attention_mask": mask}
    if "token_type_ids" in inputs:  # one text is one segment: all zeros
        sources["token_type_ids"] = before.add("Sub", "ids", "ids")
    if inputs.keys() != sources.keys():
        raise ModelCorrupt(
            f"{path} takes {', '.join(inputs)}: input_ids, attention_mask and perhaps token_type_ids are known here. "
            "Take a file that was exported for embeddings (feature-extraction)."
        )
    for name, source in sources.items():
        before.add_as(name, "Cast", source, to=inputs[name].type.tensor_type.elem_type)

    after = Graph(opset, "insitu.out.")
    pooled = output if pooling == "graph" else head.pool(after, output, mask, pooling)
    head.finish(after, pooled, None, full_dim)
    before.join(graph, first=True)
    after.join(graph, first=False)
    # From version 4 on constants need not be inputs too, and ours are not.
    model.ir_version = max(model.ir_version, 4)
    return model, data


def _output(graph: onnx.GraphProto, path: Path, full_dim: int, pooling: str) -> str:
    """The name of the output to go on from."""
    known = POOLED if pooling == "graph" else STATES
    found = {entry.name: entry for entry in graph.output}
    name = next((name for name in known if name in found), None)
    if name is None:
        way_out = "'mean' or 'cls' in model.json" if pooling == "graph" else "another file of the model"
        raise ModelCorrupt(
            f"{path} gives {', '.join(found) or 'nothing'}: {' or '.join(known)} is needed for the pooling "
            f"{pooling!r}. Try {way_out}."
        )
    shape = found[name].type.tensor_type.shape.dim
    rank = 2 if pooling == "graph" else 3
    size = shape[-1].dim_value if shape else 0  # 0: not said
    if shape and (len(shape) != rank or size not in (0, full_dim)):
        told = " x ".join(str(dim.dim_value or dim.dim_param or "?") for dim in shape)
        wanted = f"batch x {full_dim}" if rank == 2 else f"batch x tokens x {full_dim}"
        raise ModelCorrupt(f"{path}: {name} is {told}, not {wanted}. Correct full_dim in model.json.")
    return name


def _check_data(graph: onnx.GraphProto, path: Path) -> tuple[str, ...]:
    """The data files that the weights lie in, sorted; each is there and long enough."""
    ends: dict[str, int] = {}
    for tensor in _tensors(graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        name = said.get("location", "").removeprefix("./")
        if not name or name in (".", "..") or "/" in name or "\\" in name:
            raise ModelCorrupt(f"{path}: the weight {tensor.name} is in {name!r}, which is no file beside it.")
        ends[name] = max(ends.get(name, 0), int(said.get("offset", 0)) + int(said.get("length", 0)))
    for name, end in ends.items():
        place = path.parent / name
        if not place.is_file():
            raise ModelCorrupt(f"{path} has its weights in {name}, which is not beside it. Fetch the model again.")
        if place.stat().st_size < end:
            raise ModelCorrupt(
                f"{place} has {place.stat().st_size:,} bytes, but the graph reads {end:,}: it is cut or of another "
                "graph. Fetch the model again."
            )
    return tuple(sorted(ends))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for part in _graphs(graph):
        yield from part.initializer
        for node in part.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values and nodes other names wherever they occur."""
    for part in _graphs(graph):
        for node in part.node:
            node.name = names.get(node.name, node.name)
            for side in (node.input, node.output):
                side[:] = [names.get(name, name) for name in side]
        for entry in (*part.initializer, *part.input, *part.output, *part.value_info):
            entry.name = names.get(entry.name, entry.name)
