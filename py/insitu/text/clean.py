"""Text as Unicode allows it, before anything else looks at it."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD; a high and a low one in order become their character.

    Tokenizers refuse or mangle lone surrogates, each in its own way; JS strings may hold them.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
