"""The compact vocabulary file holds what the page needs, and is refused where it would not be enough."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from insitu.model.vocabulary import JOINED, NotCompact, pack_vocabulary
from small_gemma import small_gemma

Change = Callable[[dict[str, Any]], None]


def unpack(packed: bytes) -> tuple[dict[str, Any], list[str]]:
    """As the page does: tokens that are two in a row after the others, by id."""
    line, _, rest = packed.partition(b"\n")
    header = json.loads(line)
    raw, joins = gzip.decompress(rest[: header["zipped"]]), rest[header["zipped"] :]
    lengths, units = raw[: header["count"]], raw[header["count"] :]
    text = bytes(byte for pair in zip(units[len(units) // 2 :], units, strict=False) for byte in pair)
    tokens: list[str | None] = []
    at = 0
    for length in lengths:
        joined = length == JOINED
        tokens.append(None if joined else text[2 * at : 2 * (at + length)].decode("utf-16-le"))
        at += 0 if joined else length
    assert 4 * at == 2 * len(units)
    ids = [id for id, token in enumerate(tokens) if token is None]
    lower = struct.unpack_from(f"<{2 * len(ids)}H", joins)
    above = [half for byte in joins[4 * len(ids) :] for half in (byte & 15, byte >> 4)]
    for i, id in enumerate(ids):
        parts = tokens[lower[i] | (above[i] & 3) << 16], tokens[lower[len(ids) + i] | above[i] >> 2 << 16]
        tokens[id] = "".join(part for part in parts if part is not None)
        assert None not in parts
    assert len(joins) == 4 * len(ids) + (len(ids) + 1) // 2
    return header, [token or "" for token in tokens]


def test_a_vocabulary_file_holds_all_tokens_in_order_of_id() -> None:
    data = small_gemma()
    header, tokens = unpack(pack_vocabulary(data))
    assert header.pop("zipped") > 285 / 8
    assert tokens == list(data["model"]["vocab"])
    assert header == {
        "format": "insitu-vocabulary", "version": 2, "kind": "bpe", "count": 285, "space": ord("▁"), "bytes": 0,
        "first": [[259, 260], [264, 264]], "added": [[256, 257], [265, 265]],
    }  # fmt: skip


def test_the_same_tokenizer_packs_to_the_same_bytes() -> None:
    assert pack_vocabulary(small_gemma()) == pack_vocabulary(json.loads(json.dumps(small_gemma())))


def test_merges_in_the_older_spelling_are_read() -> None:
    data = small_gemma()
    data["model"]["merges"] = [" ".join(merge) for merge in data["model"]["merges"]]
    assert pack_vocabulary(data) == pack_vocabulary(small_gemma())


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
    merges[-1], merges[-2] = merges[-2], merges[-1]


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
        (put("added_tokens", 0, "id", 285), "<unk>"),
        (swap_merges, "merges"),
        (drop_merge, "merges"),
        (put("model", "vocab", "a" * 255, 285), "255"),
    ],
)
def test_a_tokenizer_that_the_page_would_get_wrong_is_not_packed(change: Change, said: str) -> None:
    data = copy.deepcopy(small_gemma())
    change(data)
    with pytest.raises(NotCompact, match=said):
        pack_vocabulary(data)


def test_gemma_is_packed_into_little_more_than_a_megabyte(
    gemma_exported: dict[str, Any], gemma_vocabulary: bytes
) -> None:
    assert len(gemma_vocabulary) <= 1_200_000
    header, tokens = unpack(gemma_vocabulary)
    vocab = gemma_exported["model"]["vocab"]
    assert header["count"] == len(vocab) == 262_144
    assert all(vocab[token] == id for id, token in enumerate(tokens))
