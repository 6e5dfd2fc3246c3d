"""Fit the smoothing of all-MiniLM-L6-v2: a factor for each channel before the products of `insitu.model.smoothing`.

factor = a ** ALPHA / w ** (1 - ALPHA), with a the largest absolute value of the channel over the calibration texts and
w that of the weights which read it (SmoothQuant, equation 4), divided by the geometric mean of the layer's factors.
The activations are those of the exported graph without smoothing: close enough to float32 for a maximum.

Needs what insitu needs, and the fetched weights. Example:

    python models/minilm-l6/fit_smoothing.py wordnet=dict questions=dict html=/usr/share/doc/python3.11/html
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from fit_rotation import sample
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from insitu.model import bert, cache, manifest
from insitu.model.quantise import quantise_rows
from insitu.model.smoothing import SMOOTHED, to_bytes

# Chosen by the mean cosine of the golden vectors to float32: 0.3 0.9978, 0.5 0.9985, 0.65 0.9988, 0.8 0.9987.
ALPHA = 0.65
TEXTS_PER_SOURCE = 100
TOKENS = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="KIND=PATH", help="as fit_rotation.py takes them")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("smoothing.bin"))
    options = parser.parse_args()

    known = manifest.load("minilm-l6")
    source = cache.source_dir(known.name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    tensors = _tensors(source / "model.safetensors")
    model = bert.build(tensors, config, None, {}, known.max_tokens, known.pooling)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers, size = int(config["num_hidden_layers"]), known.full_dim
    names = [f"layer.{layer}.{name}" for layer in range(layers) for name in SMOOTHED]
    inputs = [_input_of(model, f"{name}.weight") for name in names]
    for tensor in dict.fromkeys(inputs):
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    codes, scales = quantise_rows(tensors[bert.TABLE])
    most = np.full((len(names), size), 1e-3, np.float32)
    for text in _sample(options.sources):
        ids = tokenizer.encode(text).ids
        feeds = {
            "rows": codes[ids][None],
            "row_scales": scales[ids][None, :, None],
            "lengths": np.array([len(ids)], np.int32),
            "dim": np.array([size], np.int64),
        }
        for i, states in enumerate(session.run(inputs, feeds)):
            most[i] = np.maximum(most[i], np.abs(states[0]).max(axis=0))
    factors = []
    for name, activation in zip(names, most, strict=True):
        reads = (np.abs(weights[f"{name}.weight"].astype(np.float32)) * weights[f"{name}.scale"]).max(axis=1)
        factor = activation**ALPHA / reads ** (1 - ALPHA)
        factors.append(factor / np.exp(np.log(factor).mean()))
    data = to_bytes(np.array(factors))
    options.out.write_bytes(data)
    print(f"{options.out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def _input_of(model: onnx.ModelProto, weight: str) -> str:
    """The float tensor that is quantised for the product with `weight`: back over QuantizeLinear and Div."""
    makers = {output: node for node in model.graph.node for output in node.output}
    product = next(node for node in model.graph.node if weight in node.input)
    divided = makers[makers[product.input[0]].input[0]]
    return str(divided.input[0])


def _sample(sources: list[str]) -> list[str]:
    """Some texts of each source, and the shortest texts there are: they lean on the special tokens, the most uneven."""
    texts = ["", "a", "I"]
    for source in sources:
        kind, _, path = source.partition("=")
        chosen = sample(kind, Path(path), TEXTS_PER_SOURCE)
        digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()
        print(f"{kind}: {len(chosen)} texts, SHA-256 {digest[:12]}")
        texts += chosen
    return texts


if __name__ == "__main__":
    main()
