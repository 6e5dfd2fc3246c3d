"""Make tests/data/tiny-gemma/golden.json: what transformers gives for the tiny checkpoint, for tests to compare with.

The checkpoint is that of make_checkpoint.py; its hash is recorded. Vectors are float32, little-endian, base64: mean of
the token states, both Dense layers, length 1.

Run by hand, never by CI: it needs torch and transformers. The file records their versions.

    python tests/make_golden_gemma.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch  # type: ignore[import-not-found]
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Gemma3TextModel  # type: ignore[import-not-found]

from make_checkpoint import make

TARGET = Path(__file__).parent / "data/tiny-gemma/golden.json"
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


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = make(Path(name))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        model = Gemma3TextModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        assert model.config.use_bidirectional_attention
        dense = [load_file(folder / part / "model.safetensors")["linear.weight"] for part in ("2_Dense", "3_Dense")]
        cases = []
        for title, text in TEXTS.items():
            ids = tokenizer.encode(text).ids
            with torch.inference_mode():
                states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
                vector = states.mean(dim=0) @ dense[0].T @ dense[1].T
                vector = torch.nn.functional.normalize(vector, dim=0).numpy()
            embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            cases.append({"name": title, "text": text, "token_ids": ids, "embedding": embedding})
        weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made_with = {package: version(package) for package in ("torch", "transformers", "tokenizers")}
    found = {"made_with": made_with, "model_safetensors_sha256": weights, "cases": cases}
    TARGET.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(cases)} cases, {[len(case['token_ids']) for case in cases]} tokens")


if __name__ == "__main__":
    main()
