"""Fit the rotation of all-MiniLM-L6-v2: an orthonormal matrix whose first outputs carry the most.

The rotation is uncentred PCA: the eigenvectors, largest eigenvalue first, of the mean of v v^T over the unit vectors v
of many texts. Rotating changes no dot product, and cut to its first `dim` outputs a rotated vector keeps more of every
dot product than any other choice of `dim` directions does, over texts like those it was fitted on (Eckart and Young,
1936). So the texts must be broad. The matrix holds no text.

Each source counts by its weight, not by its number of texts. Only the first 256 rows are stored, as int8: see
`insitu/model/rotation.py` for the format.

Needs numpy, torch and sentence-transformers, which insitu itself does not. Each source is KIND=PATH or
KIND=PATH:WEIGHT; the README beside this file lists those used and where they come from. Example:

    python fit_rotation.py --model MINILM_DIR --out rotation.bin \\
        wordnet=dict:4 questions=dict:1 factbook=factbook:1 html=/usr/share/doc/python3.11/html:1
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 256  # rows stored; the rest of the matrix is completed when it is read
# int8 value of the largest component of a row. Coarse rows deflate well, and the rows made from them are orthonormal
# all the same. See the README for what each choice weighs and costs.
LEVELS = 8
# Rows from here on serve one size only, 256: fewer levels there save 8 kB of a wheel that must stay below 150.
COARSE_FROM, COARSE_LEVELS = 128, 3
TOKENS = 128
SEED = 7
PART_OF_SPEECH = ("noun", "verb", "adj", "adv")


def wordnet(path: Path) -> Iterator[str]:
    """Each synset of WordNet's `data.*` files as 'words: definition and examples'."""
    for words, gloss, _, _ in _synsets(path):
        yield f"{', '.join(words)}: {gloss}"


def wordnet_paragraphs(path: Path) -> Iterator[str]:
    """Paragraphs of some 100 words: a noun's definition and those of nouns that point to the same one."""
    groups: dict[str, list[str]] = {}
    for words, gloss, _, parent in _synsets(path, ("noun",)):
        groups.setdefault(parent, []).append(f"{words[0]} is {gloss.split(';')[0]}.")
    for sentences in groups.values():
        for start in range(0, len(sentences) - 4, 7):
            yield " ".join(s[0].upper() + s[1:] for s in sentences[start : start + 7])


def questions(path: Path) -> Iterator[str]:
    """A question about each noun of WordNet, in one of many forms."""
    shuffle = random.Random(SEED)
    persons = ("Who was {}?", "When did {} die?", "What is {} known for?", "Where did {} live?")
    things = (
        "What is {}?", "What is {} used for?", "Why is {} important?", "What kind of {} is there?", "How does {} work?",
        "Where is {} found?", "When was {} first known?", "What is the name of {}?", "How many kinds of {} are there?",
        "Which {} is the largest?", "What causes {}?", "Who invented {}?",
    )  # fmt: skip
    for words, _, file_number, _ in _synsets(path, ("noun",)):
        named_person = file_number == "18" and words[0][0].isupper()
        yield shuffle.choice(persons if named_person else things).format(shuffle.choice(words))


def _synsets(path: Path, parts: tuple[str, ...] = PART_OF_SPEECH) -> Iterator[tuple[list[str], str, str, str]]:
    """(words, definition and examples, lexicographer's file, offset of the parent) of each synset."""
    for part in parts:
        for line in (path / f"data.{part}").read_text("utf-8", errors="replace").splitlines():
            if line.startswith(" "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            count = int(fields[3], 16)
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
            parent = re.search(r" @i? (\d{8}) n", head)
            yield words, gloss.strip(), fields[1], parent[1] if parent else ""


def factbook(path: Path) -> Iterator[str]:
    """The longer entries of each country of the World Factbook's JSON files."""
    for file in sorted(path.rglob("*.json")):
        data = json.loads(file.read_text("utf-8"))
        names = _leaves(data.get("Government", {}).get("Country name", {})) if isinstance(data, dict) else []
        name = next((text for keys, text in names if "conventional short form" in keys), "")
        for keys, text in _leaves(data):
            if name and len(text) >= 60:
                yield f"{name}. {' - '.join(k for k in keys if k != 'text')}: {text}"


def _leaves(data: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*keys, str(key)))
    elif isinstance(data, str):
        yield keys, data


def pages(path: Path) -> Iterator[str]:
    """The paragraphs of HTML pages (`<p>` and `<dd>` of at least 80 characters), Stellarium's English ones too."""
    for file in sorted({*path.rglob("*.html"), *path.rglob("*.en.utf8")}):
        text = file.read_text("utf-8", errors="replace")
        for match in re.finditer(r"<(p|dd)\b[^>]*>(.*?)(?=</\1>|<p\b|<dd\b|</dl>)", text, re.DOTALL):
            yield _plain(match[2])


def dictionary(path: Path) -> Iterator[str]:
    """The articles of a dictd dictionary, line breaks within an article undone."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    for article in re.split(r"\n(?=\S)", text):
        yield _plain(article)


def legends(path: Path) -> Iterator[str]:
    """The history of each nation in Freeciv's `*.ruleset` files."""
    for file in sorted(path.rglob("*.ruleset")):
        for match in re.finditer(r'legend\s*=\s*_\("(.*?)"\)', file.read_text("utf-8", errors="replace"), re.DOTALL):
            yield _plain(match[1].replace("\\\n", " "))


def _plain(text: str) -> str:
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    text = re.sub(r"\s+", " ", text).strip()
    return text[:1500] if len(text) >= 80 else ""


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {
    "wordnet": wordnet, "paragraphs": wordnet_paragraphs, "questions": questions, "factbook": factbook, "html": pages,
    "dict": dictionary, "legends": legends,
}  # fmt: skip


def sample(kind: str, path: Path, count: int) -> list[str]:
    """At most `count` different texts of a source, the same at every run."""
    texts = sorted({text for text in KINDS[kind](path) if text})
    random.Random(SEED).shuffle(texts)
    return texts[:count]


def embed(model_dir: Path, texts: list[str]) -> np.ndarray:
    """float32 unit vectors (texts x 384), mean pooling, of the first `TOKENS` tokens each."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_dir), device="cpu")
    model.max_seq_length = TOKENS
    return model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False).astype(np.float32)


def fit(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Rows are directions, the strongest first: float64 (dim x dim), orthonormal.

    `parts`: the vectors of each source (n x dim) and its weight.
    """
    moment = sum(weight * (v.astype(np.float64).T @ v.astype(np.float64)) / len(v) for v, weight in parts)
    strength, vectors = np.linalg.eigh(np.asarray(moment))
    rotation = vectors[:, np.argsort(-strength, kind="stable")].T
    # An eigenvector's sign is arbitrary: make its largest component positive, so that a second fit gives the same file.
    largest = np.abs(rotation).argmax(axis=1)
    return rotation * np.sign(rotation[np.arange(len(rotation)), largest])[:, None]


def quantise(rotation: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """The first `rows` rows as int8 (rows x dim), each on its own scale: its largest component is `LEVELS`, or
    `COARSE_LEVELS` from row `COARSE_FROM` on.

    The scale is not stored: reading makes each row a unit vector again.
    """
    head = rotation[:rows]
    levels = np.where(np.arange(rows) < COARSE_FROM, LEVELS, COARSE_LEVELS)[:, None]
    return np.rint(head * (levels / np.abs(head).max(axis=1, keepdims=True))).astype(np.int8)


def pack(codes: np.ndarray) -> bytes:
    """A zlib stream of Huffman codes alone: the repetitions that deflate finds in numbers like these cost it a sixth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(codes.tobytes()) + packer.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=f"Kinds: {', '.join(KINDS)}.")
    parser.add_argument("sources", nargs="+", metavar="KIND=PATH[:WEIGHT]")
    parser.add_argument("--model", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rotation.bin"))
    parser.add_argument("--keep", type=Path, help="folder for the vectors, used again when only a weight changes")
    parser.add_argument("--per-source", type=int, default=1500, help="texts of each source at most")
    args = parser.parse_args()

    parts, record = [], []
    for source in args.sources:
        kind, _, rest = source.partition("=")
        name, _, weight = rest.partition(":")
        if kind not in KINDS:
            parser.error(f"source {source!r}: the kind is one of {', '.join(KINDS)}.")
        texts = sample(kind, Path(name), args.per_source)
        if not texts:
            parser.error(f"source {source!r}: no text found in {name}.")
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
        record.append({"kind": kind, "weight": float(weight or 1), "texts": len(texts), "sha256": digest})
        print(json.dumps(record[-1]))
        kept = args.keep / f"{digest[:16]}.npy" if args.keep else None
        vectors = np.load(kept) if kept is not None and kept.exists() else embed(args.model, texts)
        if kept is not None:
            np.save(kept, vectors)
        parts.append((vectors, float(weight or 1)))
    codes = quantise(fit(parts))
    packed = pack(codes)
    args.out.write_bytes(packed)
    print(f"{args.out.name}: {codes.shape} int8, {len(packed)} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    print(", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "transformers", "sentence-transformers")))


if __name__ == "__main__":
    main()
