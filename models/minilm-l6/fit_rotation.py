"""Fit the rotation of all-MiniLM-L6-v2: an orthonormal matrix whose first outputs carry the most.

The rotation is uncentred PCA: the eigenvectors, largest eigenvalue first, of the mean of v v^T over the unit vectors v
of many texts. Rotating changes no dot product, and cut to its first `dim` outputs a rotated vector keeps more of every
dot product than any other choice of `dim` directions does, over texts like those it was fitted on (Eckart and Young,
1936). So the texts must be broad. The matrix holds no text.

Each source counts by its weight, not by its number of texts. 128 rows are stored in codes of four bits, and behind
them some of the axes: see `insitu/model/rotation.py` for the format.

Needs insitu, torch and sentence-transformers, which insitu itself does not. Each source is KIND=PATH or
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from insitu.model.rotation import load_rotation

# Code of the largest component of a row, for rows 0-63 and 64-127; at most 7. Coarse rows deflate well, and the rows
# made from them are orthonormal all the same. See the README for what each choice weighs and costs.
LEVELS = (4,) * 64 + (3,) * 64
# Rows 128-255 serve one size only, 256. An axis costs a byte or two, a row 150 and more.
AXES = 128
# The least part of an axis, squared, that lies outside the rows before it: reading wants a quarter.
OUTSIDE = 0.3
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


def moment_of(parts: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """The mean of v v^T, float64 (dim x dim). `parts`: the vectors of each source (n x dim) and its weight."""
    return np.asarray(sum(weight * (v.astype(np.float64).T @ v.astype(np.float64)) / len(v) for v, weight in parts))


def fit(moment: np.ndarray) -> np.ndarray:
    """Rows are directions, the strongest first: float64 (dim x dim), orthonormal."""
    strength, vectors = np.linalg.eigh(moment)
    rotation = vectors[:, np.argsort(-strength, kind="stable")].T
    # An eigenvector's sign is arbitrary: make its largest component positive, so that a second fit gives the same file.
    largest = np.abs(rotation).argmax(axis=1)
    return rotation * np.sign(rotation[np.arange(len(rotation)), largest])[:, None]


def quantise(rotation: np.ndarray) -> np.ndarray:
    """The first rows as int8 (rows x dim), each on its own scale: its largest component is that of `LEVELS`.

    The scale is not stored: reading makes each row a unit vector again.
    """
    head = rotation[: len(LEVELS)]
    levels = np.array(LEVELS)[:, None]
    return np.rint(head * (levels / np.abs(head).max(axis=1, keepdims=True))).astype(np.int8)


def strongest_axes(rows: np.ndarray, moment: np.ndarray, count: int = AXES) -> np.ndarray:
    """Behind `rows` (orthonormal), one after another the axis whose part outside of all before carries the most.

    int8 (count x dim), a single 1 in each row.
    """
    outside = np.eye(len(moment)) - rows.T @ rows
    chosen: list[int] = []
    for _ in range(count):
        length = np.diag(outside).copy()
        carried = np.einsum("ij,ij->i", outside @ moment, outside) / np.maximum(length, OUTSIDE)
        chosen.append(int(np.where(length > OUTSIDE, carried, -1.0).argmax()))
        direction = outside[chosen[-1]] / np.sqrt(length[chosen[-1]])
        outside -= np.outer(outside @ direction, direction)
    return np.eye(len(moment), dtype=np.int8)[chosen]


def pack(codes: np.ndarray) -> bytes:
    """A zlib stream of Huffman codes and runs, in blocks of 8,192: other repetitions, which deflate looks for, cost
    numbers like these a sixth, and rows of few levels want a code of their own. Huffman codes must have a bit at least,
    which two numbers a byte share."""
    halves = (codes + 8).astype(np.uint8).reshape(-1, 2)
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 7, zlib.Z_RLE)
    return packer.compress((halves[:, 0] << 4 | halves[:, 1]).tobytes()) + packer.flush()


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
    moment = moment_of(parts)
    codes = quantise(fit(moment))
    args.out.write_bytes(pack(codes))
    rows = load_rotation(args.out)[: len(codes)].astype(np.float64)
    codes = np.concatenate([codes, strongest_axes(rows, moment)])
    packed = pack(codes)
    args.out.write_bytes(packed)
    print(f"{args.out.name}: {codes.shape}, {len(packed)} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    print(", ".join(f"{name} {_version(name)}" for name in ("numpy", "torch", "transformers", "sentence-transformers")))


def _version(name: str) -> str:
    """With --keep, vectors may be there already, and nothing that makes them."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()
