"""Make a checkpoint of EmbeddingGemma's architecture with random weights, for tests and for the benchmark.

The real weights are under the Gemma Terms of Use and cannot be fetched where tests run. A checkpoint made here has the
same files, names and shapes, and a `model.json` of its own, so that every command takes its folder as a model.

    python tests/make_checkpoint.py FOLDER            # tiny: 7 layers of 96, a window of 8 tokens to each side; 3 MB
    python tests/make_checkpoint.py FOLDER --full     # as large as the real one; 1.2 GB

The numbers come from numpy's RandomState, whose stream is frozen: the same files on every machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

TOKENIZER = Path(__file__).parent / "data/tiny-gemma/tokenizer.json"
TINY: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 7, "num_attention_heads": 3, "head_dim": 32,
    "query_pre_attn_scalar": 32, "sliding_window": 16, "vocab_size": 1024,
}  # fmt: skip
FULL: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 24, "num_attention_heads": 3, "head_dim": 256,
    "query_pre_attn_scalar": 256, "sliding_window": 512, "vocab_size": 262_144,
}  # fmt: skip
COMMON: dict[str, Any] = {
    "architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", "attention_bias": False,
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "bos_token_id": 2, "eos_token_id": 1,
    "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 2048,
    "num_key_value_heads": 1, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": None,
    "rope_theta": 1000000.0, "use_bidirectional_attention": True, "torch_dtype": "float32",
}  # fmt: skip


def config(sizes: dict[str, Any]) -> dict[str, Any]:
    kinds = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(sizes["num_hidden_layers"])]
    return {**COMMON, **sizes, "layer_types": kinds}


def make(folder: Path, *, full: bool = False, seed: int = 20250904, **changes: Any) -> Path:
    """Write a checkpoint to `folder` and return it. `changes` replace entries of config.json."""
    found = config(FULL if full else TINY) | changes
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)

    def normal(*shape: int, deviation: float) -> np.ndarray:
        values = np.empty(shape, np.float32)
        for row in values.reshape(-1, shape[-1]) if values.size < 1e6 else values:
            row[...] = random.standard_normal(row.shape) * deviation
        return values

    size, inner, head = found["hidden_size"], found["intermediate_size"], found["head_dim"]
    heads = found["num_attention_heads"]
    shapes = {
        "self_attn.q_proj": (heads * head, size), "self_attn.k_proj": (head, size), "self_attn.v_proj": (head, size),
        "self_attn.o_proj": (size, heads * head), "mlp.gate_proj": (inner, size), "mlp.up_proj": (inner, size),
        "mlp.down_proj": (size, inner),
    }  # fmt: skip
    norms = {
        "input_layernorm": size, "post_attention_layernorm": size, "pre_feedforward_layernorm": size,
        "post_feedforward_layernorm": size, "self_attn.q_norm": head, "self_attn.k_norm": head,
    }  # fmt: skip
    tensors = {"embed_tokens.weight": normal(found["vocab_size"], size, deviation=size**-0.5)}
    for layer in range(found["num_hidden_layers"]):
        for name, shape in shapes.items():
            tensors[f"layers.{layer}.{name}.weight"] = normal(*shape, deviation=shape[1] ** -0.5)
        for name, length in norms.items():
            tensors[f"layers.{layer}.{name}.weight"] = normal(1, length, deviation=0.2)[0]
    tensors["norm.weight"] = normal(1, size, deviation=0.2)[0]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    wide = 4 * size
    for name, shape in (("2_Dense", (wide, size)), ("3_Dense", (size, wide))):
        (folder / name).mkdir(exist_ok=True)
        weight = normal(*shape, deviation=shape[1] ** -0.5)
        save_file({"linear.weight": weight}, folder / name / "model.safetensors", metadata={"format": "pt"})
        dense = {"in_features": shape[1], "out_features": shape[0], "bias": False}
        identity = {"activation_function": "torch.nn.modules.linear.Identity"}
        (folder / name / "config.json").write_text(json.dumps(dense | identity), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "model.json").write_text(json.dumps(manifest(folder, size), indent=1), encoding="utf-8")
    return folder


BERT: dict[str, Any] = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 96, "intermediate_size": 192,
    "num_hidden_layers": 3, "num_attention_heads": 3, "max_position_embeddings": 128, "type_vocab_size": 2,
    "vocab_size": 1024, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0, "torch_dtype": "float32",
}  # fmt: skip


def make_bert(folder: Path, *, pooling: str, seed: int = 20181011) -> Path:
    """A tiny BERT with random weights and the tokenizer of the tiny Gemma, as a folder with a `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    size, inner, tokens = BERT["hidden_size"], BERT["intermediate_size"], BERT["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (tokens, size),
        "embeddings.position_embeddings.weight": (BERT["max_position_embeddings"], size),
        "embeddings.token_type_embeddings.weight": (2, size),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(BERT["num_hidden_layers"]):
        at = f"encoder.layer.{layer}"
        squares = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")] + [
            f"{at}.attention.output.dense"
        ]
        for name in squares:
            shapes |= {f"{name}.weight": (size, size), f"{name}.bias": (size,)}
        shapes |= {f"{at}.intermediate.dense.weight": (inner, size), f"{at}.intermediate.dense.bias": (inner,)}
        shapes |= {f"{at}.output.dense.weight": (size, inner), f"{at}.output.dense.bias": (size,)}
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    tensors = {
        name: (random.standard_normal(shape) * shape[-1] ** -0.5).astype(np.float32) for name, shape in shapes.items()
    }
    for name in norms:
        tensors[f"{name}.weight"] = (1 + 0.2 * random.standard_normal(size)).astype(np.float32)
        tensors[f"{name}.bias"] = (0.1 * random.standard_normal(size)).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(BERT, indent=1), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    found = {
        "format": "insitu-manifest", "version": 1, "name": f"tiny-bert-{pooling}", "title": "tiny BERT, random weights",
        "family": "bert", "licence": "Apache-2.0", "home": "", "variants": ["int8"], "full_dim": size, "dims": [size],
        "default_dim": size, "max_tokens": 128, "pooling": pooling, "prompts": {"query": "query: ", "document": ""},
        "sources": [], "files": [{"file": name} for name in ("model.safetensors", "tokenizer.json", "config.json")],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return folder


def manifest(folder: Path, size: int) -> dict[str, Any]:
    """What models/embeddinggemma-300m/model.json says, for this folder's files and sizes."""
    real = Path(__file__).resolve().parents[1] / "models/embeddinggemma-300m/model.json"
    found: dict[str, Any] = json.loads(real.read_text(encoding="utf-8"))
    name = "random-gemma" if size == FULL["hidden_size"] else "tiny-gemma"
    found |= {"name": name, "title": f"{name}, random weights", "licence": "Apache-2.0", "sources": [], "home": ""}
    found |= {"full_dim": size, "default_dim": size, "dims": [size // part for part in (1, 2, 3)]}
    del found["terms"], found["config"]
    files = []
    for entry in [*found["files"], {"file": "config.json"}]:
        data = (folder / entry["file"]).read_bytes()
        files.append({"file": entry["file"], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return found | {"files": files}


def train_tokenizer(target: Path) -> None:
    """A byte-pair vocabulary of 1,024 with byte fallback, built as Gemma's is, from the texts of this repository."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    root = Path(__file__).resolve().parents[1]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=[*specials, *byte_tokens], show_progress=False)
    texts = [path.read_text(encoding="utf-8") for path in sorted([root / "DESIGN.md", *root.glob("docs/*.md")])]
    # Word by word, as Gemma's own pieces never hold a space inside; without it a piece could be a whole sentence.
    words = [f"▁{word}" for text in texts for word in text.split()]
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos>:0 $A:0 <eos>:0", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    data = json.loads(tokenizer.to_str())
    # Gemma's byte tokens are plain entries of its vocabulary, not added tokens.
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="as large as the real model")
    parser.add_argument("--train-tokenizer", action="store_true", help=f"write {TOKENIZER.name} anew first")
    chosen = parser.parse_args()
    if chosen.train_tokenizer:
        train_tokenizer(TOKENIZER)
    print(make(chosen.folder, full=chosen.full))
