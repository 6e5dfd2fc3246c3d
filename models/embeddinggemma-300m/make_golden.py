"""Write golden.json and golden-more.json from a file of reference vectors of the real model.

The reference has one case for each text: `name`, `text` (with its prompt), `token_ids`, `embedding_f32le_base64` (768
float32, length 1), made with sentence-transformers in float32. Here vectors become float16, which moves them by a
cosine of less than 1e-6, which this script checks, and halves the files.

`golden.json` goes into the wheel and holds the two short cases that a device is tried with; the rest is for the
repository.

    python models/embeddinggemma-300m/make_golden.py REFERENCE.json
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

CANARIES = ("no prompt", "zh query")
CARD = ("card query", "card venus", "card mars", "card jupiter", "card saturn")


def case(entry: dict[str, Any]) -> dict[str, Any]:
    vector = np.frombuffer(base64.b64decode(entry["embedding_f32le_base64"]), "<f4")
    half = vector.astype("<f2")
    back = half.astype(np.float64)
    assert vector.shape == (768,) and 1 - back @ vector / np.linalg.norm(back) < 1e-6, entry["name"]
    embedding = base64.b64encode(half.tobytes()).decode()
    return {key: entry[key] for key in ("name", "text", "token_ids")} | {"embedding": embedding}


def write(path: Path, found: dict[str, Any]) -> None:
    cases = ",\n".join("  " + json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in found["cases"])
    front = json.dumps({**found, "cases": []}, ensure_ascii=False, indent=1)
    path.write_text(front.replace('"cases": []', f'"cases": [\n{cases}\n ]') + "\n", encoding="utf-8")


def main(reference: Path) -> None:
    data = json.loads(reference.read_text(encoding="utf-8"))
    cases = [case(entry) for entry in data["cases"]]
    about = {
        "model": data["model"],
        "made_with": data["made_with"],
        "sha256": {
            "model.safetensors": data["model_safetensors_sha256"],
            "tokenizer.json": data["tokenizer_json_sha256"],
        },
        "embedding": "unit vector of 768: float16, little-endian, base64; texts carry their prompts",
    }
    folder = Path(__file__).parent
    write(folder / "golden.json", {"cases": [entry for entry in cases if entry["name"] in CANARIES]})
    # The model card prints what these documents score for this question.
    similarities = {"query": CARD[0], "documents": CARD[1:], "published": data["card_similarities"]}
    rest = [entry for entry in cases if entry["name"] not in CANARIES]
    write(folder / "golden-more.json", {**about, "similarities": similarities, "cases": rest})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
