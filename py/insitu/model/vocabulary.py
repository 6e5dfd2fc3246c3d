"""The compact vocabulary file, from which the page makes the ids of `tokenizers`. See DESIGN.md, "Token ids"."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VERSION = 1


class NotCompact(ValueError):
    """The tokenizer is of a kind for which the page has no code of its own. The message says what it found."""


def pack_vocabulary(data: Mapping[str, Any]) -> bytes:
    """The vocabulary file for a parsed tokenizer.json. Raises `NotCompact`.

    gzip over: one line of JSON; the length of each token in UTF-16 units (a byte each, in order of id, 0 where an id
    has no token); the high bytes of all units, then their low bytes.
    """
    model = data["model"]
    kinds = {"BPE": _bpe, "WordPiece": _wordpiece}
    if model["type"] not in kinds:
        raise NotCompact(f"{model['type']} model")
    vocab: dict[str, int] = model["vocab"]
    header = kinds[model["type"]](data, vocab) | {"added": _added(data["added_tokens"], vocab)}
    count = max(vocab.values()) + 1
    tokens = [""] * count
    for token, id in vocab.items():
        _check(tokens[id] == "" != token, f"token {token!r} at {id}")
        tokens[id] = token
    lengths = [_units(token) for token in tokens]
    _check(max(lengths) < 256, f"token of {max(lengths)} units")
    line = json.dumps({"format": "insitu-vocabulary", "version": VERSION, "count": count, **header})
    units = "".join(tokens).encode("utf-16-le")
    return gzip.compress(line.encode() + b"\n" + bytes(lengths) + units[1::2] + units[::2], mtime=0)


def _wordpiece(data: Mapping[str, Any], vocab: Mapping[str, int]) -> dict[str, Any]:
    """Uncased BERT's text handling only."""
    model, normalizer = data["model"], data["normalizer"] or {}
    known = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
    _check(normalizer in ({**known, "strip_accents": None}, {**known, "strip_accents": True}), str(normalizer))
    _check(data["pre_tokenizer"] == {"type": "BertPreTokenizer"}, str(data["pre_tokenizer"]))
    return {
        "kind": "wordpiece",
        "unknown": vocab[model["unk_token"]],
        "prefix": model["continuing_subword_prefix"],
        "longest_word": model["max_input_chars_per_word"],
    }


def _bpe(data: Mapping[str, Any], vocab: Mapping[str, int]) -> dict[str, Any]:
    """Gemma's kind: spaces become a mark, unknown characters bytes, and the merges follow from the vocabulary."""
    model = data["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        _check(not model.get(option), f"{option} {model.get(option)!r}")
    normalizer, split = data["normalizer"] or {}, data["pre_tokenizer"]
    space = normalizer.get("content", "")
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": space}
    _check(normalizer == mark and len(space) == 1 and space not in " \ud800", str(normalizer))
    # There are no spaces left that it could split at.
    _check(split is None or (split["type"], split.get("pattern")) == ("Split", {"String": " "}), str(split))
    first = vocab.get("<0x00>", -1)
    known = all(vocab.get(f"<0x{byte:02X}>") == first + byte for byte in range(256))
    _check(bool(model.get("byte_fallback")) and known, "no byte fallback")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    return {"kind": "bpe", "space": ord(space), "bytes": first, "first": _prove(merges, vocab)}


def _prove(merges: Sequence[tuple[str, ...]], vocab: Mapping[str, int]) -> list[tuple[int, int]]:
    """Runs of the ids that merge before all others. Raises `NotCompact` unless the merges follow from the vocabulary.

    Every split of a token into two tokens must be a merge. They must be in the order of the ids of the results, then
    the longer left part first; but tokens that stand before that order (SentencePiece's user-defined symbols share one
    score) are ordered by the longer left part, the longer right part, the id.
    """
    results = [vocab.get("".join(merge), -1) for merge in merges]
    early = next((i for i in range(len(results) - 1, 0, -1) if results[i] < results[i - 1]), 0)
    first = set(results[:early])
    implied = [
        (0 if id in first else id + 1, -_units(token[:cut]), -_units(token[cut:]), id, token[:cut], token[cut:])
        for token, id in vocab.items()
        for cut in range(1, len(token))
        if token[:cut] in vocab and token[cut:] in vocab
    ]
    _check([merge[4:] for merge in sorted(implied)] == list(merges), "merges that do not follow from the vocabulary")
    return _runs(first)


def _added(added: Iterable[Mapping[str, Any]], vocab: Mapping[str, int]) -> list[tuple[int, int]]:
    """Runs of the ids of added tokens."""
    for token in added:
        flags = [flag for flag in ("normalized", "single_word", "lstrip", "rstrip") if token[flag]]
        _check(not flags and vocab.get(token["content"]) == token["id"], f"added token {token['content']!r} {flags}")
    return _runs(token["id"] for token in added)


def _runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of ids."""
    runs: list[tuple[int, int]] = []
    for id in sorted(ids):
        if runs and runs[-1][1] == id - 1:
            runs[-1] = (runs[-1][0], id)
        else:
            runs.append((id, id))
    return runs


def _units(text: str) -> int:
    """Length in UTF-16."""
    return len(text) + sum(character > "\uffff" for character in text)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise NotCompact(f"{what} is not supported")
