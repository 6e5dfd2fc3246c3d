"""The compact vocabulary file holds what the page needs, and is refused where it would not be enough."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from insitu.model.vocabulary import NotCompact, pack_vocabulary

Change = Callable[[dict[str, Any]], None]


def small() -> dict[str, Any]:
    """A tokenizer.json of Gemma's kind: 256 bytes, a few tokens, the merges that follow from them."""
    tokens = ["<unk>", "<pad>", "▁▁", "▁▁▁", "\n", "▁", "a", "b", "ab", "abb", "aba", "▁a", "😀", "😀a"]
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {token: 256 + i for i, token in enumerate(tokens)}
    merges = ["▁▁ ▁", "▁ ▁▁", "▁ ▁", "a b", "ab b", "ab a", "▁ a", "😀 a"]
    off = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens": [{"id": vocab[token], "content": token, "special": True, **off} for token in ("<pad>", "\n")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def unpack(packed: bytes) -> tuple[dict[str, Any], list[str]]:
    line, _, rest = gzip.decompress(packed).partition(b"\n")
    header = json.loads(line)
    lengths, units = rest[: header["count"]], rest[header["count"] :]
    assert len(units) == 2 * sum(lengths)
    text = bytes(byte for pair in zip(units[sum(lengths) :], units, strict=False) for byte in pair)
    tokens, at = [], 0
    for length in lengths:
        tokens.append(text[2 * at : 2 * (at + length)].decode("utf-16-le"))
        at += length
    return header, tokens


def test_a_vocabulary_file_holds_all_tokens_in_order_of_id() -> None:
    data = small()
    header, tokens = unpack(pack_vocabulary(data))
    assert tokens == list(data["model"]["vocab"])
    assert header == {
        "format": "insitu-vocabulary", "version": 1, "kind": "bpe", "count": 270, "space": ord("▁"), "bytes": 0,
        "first": [[259, 259]], "added": [[257, 257], [260, 260]],
    }  # fmt: skip


def test_the_same_tokenizer_packs_to_the_same_bytes() -> None:
    assert pack_vocabulary(small()) == pack_vocabulary(json.loads(json.dumps(small())))


def test_merges_in_the_older_spelling_are_read() -> None:
    data = small()
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    assert pack_vocabulary(data) == pack_vocabulary(small())


def put(*path: Any) -> Change:
    """Set data[path[0]][path[1]]... to the last of `path`."""
    *keys, last, value = path

    def change(data: dict[str, Any]) -> None:
        place = data
        for key in keys:
            place = place[key]
        place[last] = value

    return change


def swap_merges(data: dict[str, Any]) -> None:
    merges = data["model"]["merges"]
    merges[4], merges[5] = merges[5], merges[4]
    merges.append(merges.pop(3))


def drop_merge(data: dict[str, Any]) -> None:
    del data["model"]["merges"][5]


def other_byte(data: dict[str, Any]) -> None:
    vocab = data["model"]["vocab"]
    vocab["<0x10>"], vocab["a"] = vocab["a"], vocab["<0x10>"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("model", "type", "Unigram"), "Unigram"),
        (put("model", "dropout", 0.1), "dropout"),
        (put("model", "ignore_merges", True), "ignore_merges"),
        (put("model", "end_of_word_suffix", "</w>"), "end_of_word_suffix"),
        (put("model", "byte_fallback", False), "byte fallback"),
        (other_byte, "byte fallback"),
        (put("normalizer", None), "not supported"),
        (put("normalizer", {"type": "NFC"}), "NFC"),
        (put("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False}), "ByteLevel"),
        (put("added_tokens", 0, "normalized", True), "normalized"),
        (put("added_tokens", 0, "lstrip", True), "lstrip"),
        (put("added_tokens", 0, "id", 270), "<pad>"),
        (swap_merges, "merges"),
        (drop_merge, "merges"),
        (put("model", "vocab", "a" * 256, 270), "256"),
    ],
)
def test_a_tokenizer_that_the_page_would_get_wrong_is_not_packed(change: Change, said: str) -> None:
    data = copy.deepcopy(small())
    change(data)
    with pytest.raises(NotCompact, match=said):
        pack_vocabulary(data)


def test_gemma_is_packed_into_two_megabytes(gemma_json: Path) -> None:
    data = json.loads(gemma_json.read_text("utf-8"))
    data["added_tokens"].pop()  # <image_soft_token>, which has no row: the export leaves it out
    packed = pack_vocabulary(data)
    assert len(packed) <= 2_000_000
    header, tokens = unpack(packed)
    vocab = data["model"]["vocab"]
    assert header["count"] == len(vocab) == 262_144
    assert all(vocab[token] == id for id, token in enumerate(tokens))
