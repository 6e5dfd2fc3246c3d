"""Make golden.json of tests/data/tiny-gemma and tiny-bert: what transformers gives for the tiny checkpoints.

The checkpoints are those of make_checkpoint.py; their hashes are recorded. Vectors are float32, little-endian, base64,
of length 1: for Gemma the mean of the token states behind both Dense layers, for BERT mean and first state.

Run by hand, never by CI: it needs torch and transformers. The file records their versions.

    python tests/make_golden_tiny.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

# torch and transformers are installed by hand: golden files are made seldom, and never by a test.
import torch  # type: ignore[import-not-found]
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertModel, Gemma3TextModel  # type: ignore[import-not-found]

from make_checkpoint import make, make_bert

DATA = Path(__file__).parent / "data"
SENTENCE = "The lighthouse keeper wrote down the weather twice a day, and counted the lamps that he had lit. "
TEXTS = {
    "one word": "lighthouse",
    "empty": "",
    "query with its prompt": "task: search result | query: who counts the lamps?",
    "document with its prompt": "title: The keeper | text: He counted the lamps that he had lit.",
    "within the window": "a few words",
    "as long as the window": "the model reads a text",
    "longer than the window": SENTENCE,
    "many times the window": SENTENCE * 12,
    "other scripts": "灯塔守护人每天记录两次天气。 Смотритель маяка 🎉",
    "numbers and signs": "f(x) = 3.14159 * x**2  # 100%",
}


def encode(vector: torch.Tensor) -> str:
    unit = torch.nn.functional.normalize(vector, dim=0).numpy()
    return base64.b64encode(unit.astype("<f4").tobytes()).decode()


def write(target: Path, folder: Path, cases: list[dict[str, Any]]) -> None:
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made_with = {package: version(package) for package in ("torch", "transformers", "tokenizers")}
    found = {"made_with": made_with, "model_safetensors_sha256": weights, "cases": cases}
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{target}: {len(cases)} cases")


def gemma(folder: Path) -> None:
    make(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Gemma3TextModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    assert model.config.use_bidirectional_attention
    dense = [load_file(folder / part / "model.safetensors")["linear.weight"] for part in ("2_Dense", "3_Dense")]
    cases: list[dict[str, Any]] = []
    for title, text in TEXTS.items():
        ids = tokenizer.encode(text).ids
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vector = states.mean(dim=0) @ dense[0].T @ dense[1].T
        cases.append({"name": title, "text": text, "token_ids": ids, "embedding": encode(vector)})
    write(DATA / "tiny-gemma/golden.json", folder, cases)


def bert(folder: Path) -> None:
    make_bert(folder, pooling="mean")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = BertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    cases: list[dict[str, Any]] = []
    for title, text in TEXTS.items():
        ids = tokenizer.encode(text).ids
        if len(ids) <= 128:
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            pooled = {"mean": encode(states.mean(dim=0)), "cls": encode(states[0])}
            cases.append({"name": title, "text": text, "token_ids": ids, **pooled})
    write(DATA / "tiny-bert/golden.json", folder, cases)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        gemma(Path(name) / "gemma")
        bert(Path(name) / "bert")
