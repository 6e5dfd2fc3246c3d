"""Write models in the layout of published ONNX files, from the checkpoints of `make_checkpoint.py`.

The layout is that of `onnx-community/embeddinggemma-300m-ONNX`: int64 `input_ids` and `attention_mask` in,
`last_hidden_state` and `sentence_embedding` out, weights in a file `<graph>_data` beside the graph. The published files
cannot be fetched where tests run; these hold the same operators as our own export, with the token table inside.

    python tests/make_published.py FOLDER            # tiny, all variants
    python tests/make_published.py FOLDER --full     # as large as the real one, variant q8 only
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from insitu.model import bert, gemma
from insitu.model.quantise import quantise_rows
from insitu.model.variants import linear_of
from insitu.model.weights import Weights
from make_checkpoint import BERT, make, make_bert, manifest

# The names of the published files.
FILES = {"fp32": "onnx/model.onnx", "q8": "onnx/model_quantized.onnx", "q4": "onnx/model_q4.onnx"}
# `moments` for an export whose weights are rounded to the nearest code, as they are here.
NOTHING = {"none": np.eye(1)}


def make_gemma(folder: Path, checkpoint: Path, variants: tuple[str, ...] = tuple(FILES)) -> Path:
    """The checkpoint's model as published files, with a `model.json`; returns `folder`."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    weights = Weights(checkpoint / "model.safetensors")
    down, up = (Weights(checkpoint / f"{name}_Dense/model.safetensors")["linear.weight"] for name in "23")
    size = config["hidden_size"]
    for variant in variants:
        model = gemma.build(weights, config, up @ down, linear_of(variant), 32)
        table = weights[gemma.TABLE]
        if variant != "fp32":  # as our own export rounds it
            codes, scales = quantise_rows(table)
            table = codes * scales[:, None]
        _put_table_inside(model, table * np.float32(gemma.row_factor(config)), size)
        states = _last(model, "SkipSimplifiedLayerNormalization")
        _outputs(model, {"last_hidden_state": (states, 3), "sentence_embedding": ("embedding", 2)}, size)
        _save(model, folder / FILES[variant], outside=True)
    found = manifest(checkpoint, size)
    return _write_manifest(
        folder, checkpoint, found, "graph", {v: [FILES[v], f"{FILES[v]}_data"] for v in variants}
    )  # fmt: skip


def make_bert_states(folder: Path, pooling: str) -> Path:
    """A tiny BERT that gives `last_hidden_state` alone, wants `token_type_ids`, and holds its weights itself."""
    checkpoint = make_bert(folder / "checkpoint", pooling=pooling)
    weights = Weights(checkpoint / "model.safetensors")
    size = BERT["hidden_size"]
    model = bert.build(weights, BERT, None, {}, BERT["max_position_embeddings"], pooling)
    # Another type would add something else than the first one's row, which the positions hold already.
    types = weights["embeddings.token_type_embeddings.weight"]
    _put_table_inside(model, _rounded(weights[bert.TABLE]), size, types - types[:1])
    _outputs(model, {"last_hidden_state": (_last(model, "SkipLayerNormalization"), 3)}, size)
    _save(model, folder / "onnx/model.onnx", outside=False)
    found = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))
    return _write_manifest(folder, checkpoint, found, pooling, {"fp32": ["onnx/model.onnx"]})


def _rounded(table: NDArray[np.float32]) -> NDArray[np.float32]:
    codes, scales = quantise_rows(table)
    return codes * scales[:, None]


def _put_table_inside(
    model: onnx.ModelProto, table: NDArray[np.float32], size: int, types: NDArray[np.float32] | None = None
) -> None:
    """Take ids and a mask where the graph took token rows, their scales, lengths and the wanted size."""
    graph = model.graph
    for node in graph.node:  # rows come as floats here
        node.input[:] = ["rows_float" if name == "rows" else name for name in node.input]
    dtype = next(entry.type.tensor_type.elem_type for entry in graph.input if entry.name == "rows")
    del graph.input[:]
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if types is not None else [])
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in names)
    constants: dict[str, NDArray[Any]] = {
        "table": table, "row_scales": np.ones((1, 1, 1), np.float32), "dim": np.array([size], np.int64),
        "mask_axis": np.array([1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["gathered"]),
        helper.make_node("ReduceSum", ["attention_mask", "mask_axis"], ["lengths_long"], keepdims=0),
        helper.make_node("Cast", ["lengths_long"], ["lengths"], to=TensorProto.INT32),
    ]
    words = "gathered"
    if types is not None:
        constants["types"] = types
        nodes += [helper.make_node("Gather", ["types", "token_type_ids"], ["typed"])]
        nodes += [helper.make_node("Add", ["gathered", "typed"], ["words"])]
        words = "words"
    # The graph asks the rows for their shape and casts them: floats do for both.
    assert dtype in (TensorProto.FLOAT, TensorProto.INT8)
    nodes += [helper.make_node("Identity", [words], ["rows_float"])]
    graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in constants.items())
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _last(model: onnx.ModelProto, op: str) -> str:
    return str(next(node.output[0] for node in reversed(model.graph.node) if node.op_type == op))


def _outputs(model: onnx.ModelProto, named: dict[str, tuple[str, int]], size: int) -> None:
    del model.graph.output[:]
    for name, (source, rank) in named.items():
        model.graph.node.append(helper.make_node("Identity", [source], [name]))
        shape: list[int | str | None] = ["b", "t", size] if rank == 3 else ["b", size]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _save(model: onnx.ModelProto, path: Path, *, outside: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, path, save_as_external_data=outside, location=f"{path.name}_data", size_threshold=1024)


def _write_manifest(
    folder: Path, checkpoint: Path, found: dict[str, Any], pooling: str, files: dict[str, list[str]]
) -> Path:
    for name in ("tokenizer.json", "config.json"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    found |= {"name": f"published-{found['name']}", "family": "onnx", "pooling": pooling, "variants": list(files)}
    found |= {"files": [{"file": "tokenizer.json"}, {"file": "config.json"}]}
    found |= {"variant_files": {variant: [{"file": file} for file in names] for variant, names in files.items()}}
    (folder / "model.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return folder


def write_states(
    path: Path, table: NDArray[np.float32], *, opset: int, output: str = "last_hidden_state", ids: str = "input_ids"
) -> None:
    """The smallest graph of the layout: the state of a token is its row of `table`. The mask is not used by it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in (ids, "attention_mask")]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["b", "t", table.shape[1]])]
    nodes = [helper.make_node("Gather", ["table", ids], [output])]
    graph = helper.make_graph(nodes, "states", inputs, outputs, [numpy_helper.from_array(table, "table")])
    # Opset 11 came with IR 6, whose constants might still be inputs.
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="as large as the real model, variant q8 only")
    chosen = parser.parse_args()
    source = make(chosen.folder / "checkpoint", full=chosen.full)
    print(make_gemma(chosen.folder, source, ("q8",) if chosen.full else tuple(FILES)))
