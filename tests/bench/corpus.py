"""Many short real texts, for an index of 100,000 vectors: sentences of Python's documentation and of its library."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PYTHON_DOCS = Path("/usr/share/doc/python3.11/html")
# A sentence ends at a full stop, question mark or exclamation mark before a space, or at an empty line.
_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
SHORTEST = 4  # words with letters: less is a heading or a piece of code
LONGEST = 60
# Reading ends when there are so many times the sentences that are wanted: a small measure need not read everything.
ENOUGH = 4


def sentences(count: int, seed: int = 1) -> tuple[list[str], str]:
    """`count` different sentences in random order, and what they are. Raises ValueError if there are not so many.

    The library's docstrings are everywhere; the documentation is read only when they are too few.
    """
    found: dict[str, None] = {}
    shares = []
    sources = (("docstrings of Python's library", _docstrings), ("Python's documentation", _documentation))
    for name, texts in sources:
        before = len(found)
        if before >= count:
            break
        for text in texts():
            found.update(dict.fromkeys(_sentences(text)))
            if len(found) >= ENOUGH * count:
                break
        shares.append(f"{len(found) - before:,} sentences of {name}")
    if len(found) < count:
        raise ValueError(
            f"There are {len(found):,} sentences here, not {count:,}. Python's documentation has the most "
            "(Debian: apt-get install python3.11-doc); or measure fewer: --vectors 20000."
        )
    return random.Random(seed).sample(sorted(found), count), " and ".join(shares)


def _sentences(text: str) -> Iterator[str]:
    for part in _END.split(text):
        words = part.split()
        if len(words) <= LONGEST and len(_LETTERS.findall(part)) >= SHORTEST:
            yield " ".join(words)


def _documentation() -> Iterator[str]:
    from selectolax.lexbor import LexborHTMLParser

    for path in sorted(PYTHON_DOCS.rglob("*.html")):
        tree = LexborHTMLParser(path.read_text(encoding="utf-8"))
        for node in tree.css("div.body p, div.body dd, div.body li"):
            yield node.text()


def _docstrings() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # the library's own tests hold broken files on purpose
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield ast.get_docstring(node) or ""
