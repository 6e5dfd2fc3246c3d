"""A tokenizer.json of Gemma's kind with few tokens, in which everything occurs that decides between two merges. And
texts as long as the tiny checkpoint reads.
"""

from __future__ import annotations

from typing import Any

from insitu.embedder import Embedder
from page.conftest import wait

# They share one score, as SentencePiece's user-defined symbols do, and so merge before all others.
FIRST = ["▁▁", "▁▁▁", "▁▁▁▁", "aa", "xa", "cx", "xaa"]
# "éa" and "aé" hold a letter that is no token, so nothing makes them.
OTHER = ["\n", *"▁abcx", "ab", "abb", "aba", "▁a", "ba", "bab", "😀", "😀a", "éa", "aé", "bb", "bbbb", "▁b", "ax"]


def small_gemma() -> dict[str, Any]:
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocab |= {token: 256 + i for i, token in enumerate(["<unk>", "<pad>", *FIRST, *OTHER])}
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[token], "content": token, **flags} for token in ("<unk>", "<pad>", "\n")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        "post_processor": None,
        "decoder": None,
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
            "merges": merges(vocab),
        },
    }


def merges(vocab: dict[str, int]) -> list[list[str]]:
    """As they are made from a SentencePiece model: by score, then the longer left and right part, highest first."""
    found = []
    for token, id in vocab.items():
        splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        score = 0 if token in FIRST else -id
        found += [(score, len(a), len(b), [a, b]) for a, b in splits if a in vocab and b in vocab]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [merge[3] for merge in found]


def at_the_ceiling(embedder: Embedder) -> tuple[str, str, str]:
    """Without a prompt: a text of one token less than the model reads, one that just fits, and a longer one that begins
    with it."""
    fits = embedder.lock.max_tokens - len(embedder.lock.prefix_ids) - len(embedder.lock.suffix_ids)
    counts = (fits - 1, fits, fits + 900)
    shorter, whole, longer = ("".join(f" {'abc'[i * i % 3]}" for i in range(count)) for count in counts)
    assert wait(embedder.count_tokens([shorter, whole, longer])) == counts
    return shorter, whole, longer
