"""Texts of every kind that a tokenizer may meet, made from a seed."""

from __future__ import annotations

import random
import sysconfig
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from page.texts import SCRIPTS

# First and last of blocks in use: all scripts with many readers and some with few.
BLOCKS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4),
    (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7B1), (0x900, 0x97F), (0x980, 0x9FE), (0xA01, 0xA76), (0xA81, 0xAFF),
    (0xB01, 0xB77), (0xB82, 0xBFA), (0xC00, 0xC7F), (0xC80, 0xCF2), (0xD00, 0xD7F), (0xD82, 0xDF4), (0xE01, 0xE5B),
    (0xE81, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137C),
    (0x13A0, 0x13FD), (0x1400, 0x167F), (0x1780, 0x17F9), (0x1800, 0x18AA), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE),
    (0x2000, 0x206F), (0x2070, 0x218B), (0x2190, 0x23FF), (0x2500, 0x27BF), (0x2800, 0x28FF), (0x2D30, 0x2D7F),
    (0x3000, 0x303F), (0x3041, 0x30FF), (0x3105, 0x312F), (0x3131, 0x318E), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFEFF),
    (0xFF01, 0xFFEE), (0x10000, 0x100FA), (0x10330, 0x1034A), (0x12000, 0x12399), (0x13000, 0x1342E),
    (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0001, 0xE007F),
]  # fmt: skip
SPACES = " \t\n\r\v\f\u00a0\u1680\u2000\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u0085▁"
EMOJI = [
    "😀",
    "😂",
    "❤️",
    "👍🏽",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏳️\u200d🌈",
    "🇩🇪",
    "🇺🇳",
    "1️⃣",
    "#️⃣",
    "🧑🏿\u200d🚀",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "☺︎",
    "♻️",
    "🫠",
    "🪿",
    "👨🏻\u200d🤝\u200d👨🏾",
    "✊",
    "🇦",
]
MARKS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Mn", "Me", "Mc")]


def many_texts(count: int, tokens: Sequence[str], added: Sequence[str], seed: int = 0) -> list[str]:
    """`count` texts. `tokens`: of the vocabulary; `added`: those that are found in a text first."""
    random_ = random.Random(seed)
    kinds = _kinds(random_, tokens, added)
    return [*SCRIPTS, *(kinds[i % len(kinds)]() for i in range(count - len(SCRIPTS)))]


def _kinds(r: random.Random, tokens: Sequence[str], added: Sequence[str]) -> list[Callable[[], str]]:
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    sources = [path.read_text("utf-8", errors="replace") for path in r.sample(library, 60)]

    def char(block: tuple[int, int] | None = None) -> str:
        return chr(r.randint(*(block or r.choice(BLOCKS))))

    def script() -> str:
        block = r.choice(BLOCKS)
        words = ("".join(char(block) for _ in range(r.randint(1, 9))) for _ in range(r.randint(1, 12)))
        return r.choice((" ", "", ", ", "\n")).join(words)

    def mixed() -> str:
        return "".join(char() for _ in range(r.randint(1, 40)))

    def code() -> str:
        source = r.choice(sources)
        start = r.randrange(len(source))
        return source[start : start + r.randint(1, 400)]

    def spaces() -> str:
        parts = (r.choice(SPACES) * r.choice((1, 1, 2, 3, 7, 16, 31, 32, 40)) for _ in range(r.randint(1, 6)))
        return r.choice(("", "a", "end.")).join(parts)

    def controls() -> str:
        return "".join(r.choice((chr(r.randrange(32)), chr(r.randrange(127, 160)), "x", " ")) for _ in range(20))

    def surrogates() -> str:
        return "".join(r.choice((chr(r.randrange(0xD800, 0xE000)), char(), "w ")) for _ in range(12))

    def raw_bytes() -> str:
        data = r.randbytes(r.randint(1, 60))
        return data.decode("utf-8", "replace") if r.random() < 0.5 else data.decode("latin-1")

    def marks() -> str:
        return "".join(char((0x61, 0x7A)) + "".join(r.choices(MARKS, k=r.randint(0, 4))) for _ in range(10))

    def emoji() -> str:
        return r.choice(("", " ", "a")).join(r.choices(EMOJI, k=r.randint(1, 10)))

    def joined() -> str:
        """Tokens without anything between them: many merges compete."""
        return "".join(r.choice(tokens) for _ in range(r.randint(1, 15))).replace("▁", r.choice(("▁", " ")))

    def cut() -> str:
        """Parts of tokens."""
        parts = []
        for _ in range(r.randint(2, 15)):
            token = r.choice(tokens)
            start = r.randrange(len(token))
            parts.append(token[start : start + r.randint(1, 6)])
        return "".join(parts)

    def few_letters() -> str:
        """Pairs of equal rank side by side."""
        letters = "".join(char() for _ in range(2)) + r.choice("ae. -=▁\n")
        return "".join(r.choice(letters) for _ in range(r.randint(1, 80)))

    def spelled() -> str:
        parts = (r.choice((r.choice(added), r.choice(added)[:-1], "a", " ", "<", "\n", "▁")) for _ in range(8))
        return "".join(parts)

    def long_word() -> str:
        size = r.choice((90, 101, 300, 1000))
        letters = r.choice(
            ("a", "ab", "abcdefghijklmnopqrstuvwxyz", "漢字仮名", "0123456789", "-=", "нет", "\u0301e", "😀")
        )
        return "".join(r.choice(letters) for _ in range(size))

    return [
        script, mixed, code, spaces, controls, surrogates, raw_bytes, marks, emoji, joined, cut, joined, cut,
        few_letters, spelled, long_word,
    ]  # fmt: skip
