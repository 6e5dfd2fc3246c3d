"""Make models/minilm-l6/golden.json: what sentence-transformers gives for some 30 texts, for tests to compare with.

Each case holds the token ids (special tokens included) and the float32 unit vector before any rotation. The vector is
stored as float16, little-endian, base64: that moves it by a cosine of less than 1e-6, which this script checks, and
halves the file.

Run by hand, never by CI: it needs torch and sentence-transformers. The file records their versions.

    python tests/make_golden.py --model MINILM_DIR
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Installed by hand, as the docstring says: golden files are made seldom, and never by a test.
from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

MAX_TOKENS = 256
LONG = (
    "The lighthouse keeper wrote down the weather twice a day. In the morning he noted the wind and the colour of the "
    "sea; in the evening he counted the ships that had passed and the lamps that he had lit. "
)
CASES = {
    "one word": "lighthouse",
    "one letter": "a",
    "question": "how do I run several tasks at the same time?",
    "statement": "Coroutines let a program wait for many slow things at once.",
    "two sentences": "The kettle is on. Bring the cups from the kitchen, please!",
    "paragraph": LONG,
    "paragraph of 200 words": LONG * 5,
    "longer than 256 tokens": LONG * 8 + "The end is not read.",
    "empty": "",
    "only whitespace": " \t\n ",
    "whitespace runs": "  two   words\n\n\n\tand  a\u00a0third\u3000one \r\n",
    "uppercase": "READ THE WHOLE MANUAL BEFORE YOU CALL",
    "the same in lowercase": "read the whole manual before you call",
    "numbers": "In 1987 it cost 3.14159 pounds, or 1,250,000 lire; call +44 20 7946 0018.",
    "punctuation": "Wait... what?! (Yes - \"really\": it's 50% off; see §4/5 & [note].)",
    "accents": "Où est le café près de l'hôtel? Señor Núñez trinkt gern süßen Tee in Łódź.",
    "accents, decomposed": "Ou\u0300 est le cafe\u0301 pre\u0300s de l'ho\u0302tel?",
    "code": "async with asyncio.TaskGroup() as group:\n    tasks = [group.create_task(f(x)) for x in range(10)]",
    "identifiers": "snake_case camelCase PascalCase kebab-case __dunder__ C++ F# node.js v3.11.2",
    "url and mail": "See https://example.org/a/b?c=d&e=f#g or write to first.last@example.org",
    "html": "<p class=\"note\">Do not &lt;escape&gt; &amp; twice.</p>",
    "emoji": "Well done 🎉👩‍🚀 see you at 5 ☕️ 🇨🇭",
    "chinese": "灯塔守护人每天记录两次天气。",
    "japanese": "灯台守は一日に二回、天気を書き留めた。カタカナ",
    "korean": "등대지기는 하루에 두 번 날씨를 적었다.",
    "arabic": "كان حارس المنارة يكتب حالة الطقس مرتين في اليوم.",
    "hebrew": "שומר המגדלור רשם את מזג האוויר פעמיים ביום.",
    "hindi": "प्रकाशस्तंभ का रखवाला दिन में दो बार मौसम लिखता था।",
    "thai": "คนเฝ้าประภาคารจดสภาพอากาศวันละสองครั้ง",
    "greek": "Ο φαροφύλακας έγραφε τον καιρό δύο φορές την ημέρα.",
    "russian": "Смотритель маяка дважды в день записывал погоду.",
    "mixed scripts": "The word Маяк means 灯塔, phare, or منارة.",
    "a very long word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "control characters": "a\u0000b\u200bc\u00add\ufeffe\u0007f\ufffdg",
    "unusual letters": "ﬁne ½ cup of ① ℃ 𝓯𝓪𝓷𝓬𝔂 Ⅷ İstanbul ẞ",
}  # fmt: skip


# These go into golden.json, which the wheel carries (it must stay below 150 kB), the others into golden-more.json.
CORE = ("question", "accents")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "models/minilm-l6", help="folder")
    args = parser.parse_args()

    model = SentenceTransformer(str(args.model), device="cpu")
    # Its tokenizer.json asks for truncation and padding at 128; the model reads 256, and a text alone needs no padding.
    model.max_seq_length = MAX_TOKENS
    cases = []
    for name, text in CASES.items():
        ids = model.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        vector = model.encode([text], normalize_embeddings=True)[0].astype(np.float32)
        half = vector.astype("<f2")
        stored = half.astype(np.float32)
        assert 1 - float(stored @ vector / np.linalg.norm(stored)) < 1e-6, name
        embedding = base64.b64encode(half.tobytes()).decode()
        cases.append({"name": name, "text": text, "token_ids": ids, "embedding": embedding})
    packages = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy")
    made_with = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    golden = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "made_with": made_with,
        "sha256": {
            name: hashlib.sha256((args.model / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "tokenizer.json")
        },
        "embedding": "unit vector of 384 before rotation: float16, little-endian, base64",
        "max_tokens": MAX_TOKENS,
    }
    lines = json.dumps(golden, indent=1)[: -len("\n}")]
    for file in ("golden.json", "golden-more.json"):
        chosen = [case for case in cases if (case["name"] in CORE) == (file == "golden.json")]
        rows = ",\n".join("  " + json.dumps(case, separators=(",", ":")) for case in chosen)
        path = args.out / file
        path.write_text(f'{lines},\n "cases": [\n{rows}\n ]\n}}\n', encoding="utf-8")
        print(f"{path}: {len(chosen)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
