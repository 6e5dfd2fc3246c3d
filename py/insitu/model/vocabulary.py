"""The compact vocabulary file, from which the page makes the ids of `tokenizers`. See DESIGN.md, "Token ids"."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VERSION = 2
JOINED = 255  # the length of a token that is two tokens in a row


class NotCompact(ValueError):
    """The tokenizer is of a kind for which the page has no code of its own. The message says what it found."""


def pack_vocabulary(data: Mapping[str, Any]) -> bytes:
    """The vocabulary file for a parsed tokenizer.json. Raises `NotCompact`.

    One line of JSON. gzip (`zipped` bytes) over: the length of each token in UTF-16 units (a byte each, in order of id,
    0 where an id has no token, 255 where it is two tokens in a row); the high bytes of all units, then their low bytes.
    Then, of tokens that are two: the lower 16 bits of the ids of the first ones, little-endian, then of the second
    ones, and half a byte for each token, the lower half first: two bits above the first one's, two above the second's.
    """
    model = data["model"]
    kinds = {"BPE": _bpe, "WordPiece": _wordpiece}
    if model["type"] not in kinds:
        raise NotCompact(f"{model['type']} model")
    vocab: dict[str, int] = model["vocab"]
    added = _added(data["added_tokens"], vocab)
    header = kinds[model["type"]](data, vocab) | {"added": added}
    count = max(vocab.values()) + 1
    tokens = [""] * count
    for token, id in vocab.items():
        _check(tokens[id] == "" != token, f"token {token!r} at {id}")
        tokens[id] = token
    lengths = [_units(token) for token in tokens]
    _check(max(lengths) < JOINED, f"token of {max(lengths)} units")
    joins = (
        _joins(tokens, vocab, {id for first, last in added for id in range(first, last + 1)})
        if header["kind"] == "bpe"
        else {}
    )
    for id in joins:
        tokens[id], lengths[id] = "", JOINED
    units = "".join(tokens).encode("utf-16-le")
    zipped = gzip.compress(bytes(lengths) + units[1::2] + units[::2], mtime=0)
    names = {"format": "insitu-vocabulary", "version": VERSION, "count": count, "zipped": len(zipped)}
    lower = [part & 0xFFFF for parts in zip(*joins.values(), strict=True) for part in parts]
    above = [first >> 16 | second >> 16 << 2 for first, second in joins.values()] + [0]
    halves = bytes(low | high << 4 for low, high in zip(above[::2], above[1::2], strict=False))
    return json.dumps(names | header).encode() + b"\n" + zipped + struct.pack(f"<{len(lower)}H", *lower) + halves


def _joins(tokens: Sequence[str], vocab: Mapping[str, int], whole: set[int]) -> dict[int, tuple[int, int]]:
    """Tokens that are two tokens in a row, and these; none of `whole`. A part is no such token, or has the lower id."""
    splits = {
        id: [
            (vocab[token[:cut]], vocab[token[cut:]])
            for cut in range(1, len(token))
            if {token[:cut], token[cut:]} <= vocab.keys()
        ]
        for id, token in enumerate(tokens)
    }
    whole = whole | {id for id, found in splits.items() if not found}
    known = {
        id: [parts for parts in found if all(part < 2**18 and (part < id or part in whole) for part in parts)]
        for id, found in splits.items()
        if id not in whole
    }
    return {id: found[-1] for id, found in known.items() if found}


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
