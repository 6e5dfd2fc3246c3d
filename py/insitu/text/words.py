"""A text to the terms that a word index holds. Made here once, for both engines (SQLite FTS5, MiniSearch) alike.

Lower-case letters, marks and digits; accents, Arabic and Hebrew points go, so that "cafe" finds "café". An identifier
is its parts and itself: `itertools.groupby` gives `itertools`, `groupby`, `itertools_groupby`. Scripts without spaces
between words, and Korean, whose words carry their particles, give pairs of neighbouring characters, as Lucene's
CJKBigramFilter does: there is no dictionary to cut words by on either side. No stemming, no list of stop words: texts
are in any language, and BM25 knows what is frequent.
"""

from __future__ import annotations

import re
from functools import cache
from unicodedata import category, normalize

# Goes up when a text gives other terms: an index of another version is made anew.
VERSION = 1
LONGEST = 64  # characters of a term; longer ones are data, not words
# One pass over a long query is enough for anybody; each term costs a walk over its postings.
MOST_TERMS = 256

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua9e0-\ua9ff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+)"
)


class _Characters(dict[int, int | str]):
    """What `str.translate` makes of a character: itself, nothing, a joint of identifiers ("_"), or a space."""

    def __missing__(self, code: int) -> int | str:
        if 0x300 <= code < 0x370 or 0x591 <= code < 0x5C8 or 0x64B <= code < 0x660 or code in (0x640, 0x670):
            found: int | str = ""
        elif chr(code) in "._-:":
            found = "_"
        else:
            found = code if category(chr(code))[0] in "LMN" else " "
        self[code] = found
        return found


@cache
def _characters() -> _Characters:
    return _Characters()


def terms(text: str) -> list[str]:
    """The terms of `text`, in order, each as often as it stands there; words of "_", letters, marks and digits."""
    text = text.lower() if text.isascii() else normalize("NFKD", normalize("NFKD", text).casefold())
    text = normalize("NFC", text.translate(_characters()))
    found: list[str] = []
    for word in text.split():
        parts = [part for part in word.split("_") if part]
        for part in parts:
            found += [part] if part.isascii() else _unspaced(part)
        if len(parts) > 1:
            found.append("_".join(parts))
    return [term[:LONGEST] for term in found]


def query_terms(text: str) -> list[str]:
    """The terms of a question, each once."""
    return list(dict.fromkeys(terms(text)))[:MOST_TERMS]


def _unspaced(word: str) -> list[str]:
    found = []
    # Every second piece is of a script without spaces.
    for i, piece in enumerate(_UNSPACED.split(word)):
        if i % 2 and len(piece) > 1:
            found += [piece[at : at + 2] for at in range(len(piece) - 1)]
        elif piece:
            found.append(piece)
    return found
