"""Sections to chunks: pieces that the model reads whole, cut along headings, paragraphs, lines, sentences, words.

Nothing is lost and nothing is told twice: the chunks of a page, joined, are its text (but for whitespace). There is no
overlap: what a cut sentence needs of its surroundings is mostly the name of the thing that it speaks of, and that
stands in the headings, which `embed_text` puts in front of every chunk.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from insitu.text.clean import well_formed
from insitu.text.page import Page, Section

# Part of a page's hash. A change here or in html.py that changes chunks gets a new number: pages are embedded again.
VERSION = 1
# Tokens of text in one chunk, at most: title and headings in front find room below the 256 that MiniLM reads.
TARGET_TOKENS = 160
# Title and headings in front of a chunk take at most this many characters each, so that text always finds room.
HEADING_CHARACTERS = 120
# No text in any language needs more characters for a token than this (measured on Python's documentation: 4.1). Where a
# tokenizer counts less, it has given up on a word (WordPiece makes one [UNK] of 100 letters): characters count there.
CHARACTERS_PER_TOKEN = 8
WORD_RUN = 64  # words are packed in runs of about this many characters, longer words are cut there

CountTokens = Callable[[Sequence[str]], Awaitable[Sequence[int]]]
"""Token counts of texts, without special tokens: `Embedder.count_tokens`."""


@dataclass(frozen=True)
class Chunk:
    """`trail`: the headings around it, outermost first, its own (`heading`) last. `anchor`: '' for the page's top."""

    trail: tuple[str, ...]
    anchor: str
    text: str

    @property
    def heading(self) -> str:
        return self.trail[-1] if self.trail else ""


def embed_text(title: str, chunk: Chunk) -> str:
    """What is embedded for a chunk: title, headings, text, a line each. The title once where it is a heading too."""
    front = [title] if title else []
    front += [heading for heading in chunk.trail if heading != title]
    return "\n".join([*(line[:HEADING_CHARACTERS] for line in (front[:1] + front[1:][-2:])), chunk.text])


@dataclass(frozen=True)
class _Span:
    """[start, end) of a section's text and its weight in tokens."""

    start: int
    end: int
    weight: int


# Each level cuts finer. A cut falls behind a match, so that spans cover the text without a gap.
_LEVELS = (
    re.compile(r"\n\n+"),
    re.compile(r"\n"),
    # Latin and its kin need a space after the mark, the others do not; closing quotes and brackets stay with it. The
    # look back lets a run of marks be tried once and not from each of them: a million dots take no longer than letters.
    re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+\s+|[。！？｡．]+[」』）】”’]*\s*|[।॥؟۔።၊။។]+\s*"""),
)
_WORD = re.compile(r"\S+\s*|\s+")


def target_for(max_tokens: int) -> int:
    """Tokens of text in a chunk for a model that reads `max_tokens`: the same share as 160 of MiniLM's 256, at most."""
    return max(1, min(TARGET_TOKENS, max_tokens * 5 // 8))


async def chunk_page(page: Page, count: CountTokens, *, target: int = TARGET_TOKENS) -> list[Chunk]:
    """The chunks of a page, in its order. `target`: tokens of text in a chunk, at most."""
    spans = await _spans([section.text for section in page.sections], count, target)
    chunks: list[Chunk] = []
    trail: list[tuple[int, str]] = []
    for number, section in enumerate(page.sections):
        while trail and trail[-1][0] >= section.level:
            trail.pop()
        if section.heading:
            trail.append((section.level, section.heading))
        names = tuple(heading for _, heading in trail)
        if section.text:
            glued = _glue(section.text, spans[number], target)
            chunks += [Chunk(names, section.anchor, text) for text in _pack(section.text, glued, target)]
        elif section.heading and not _goes_on(page.sections, number):
            chunks.append(Chunk(names, section.anchor, section.heading))  # an entry without a word said about it
    return chunks


def _goes_on(sections: Sequence[Section], number: int) -> bool:
    """Whether a heading without text is told by the sections below it, in whose trail it stands."""
    following = sections[number + 1] if number + 1 < len(sections) else None
    return following is not None and following.level > sections[number].level


def _glue(text: str, spans: Sequence[_Span], target: int) -> list[_Span]:
    """A span that ends with a colon, and the one that it announces (code, a list, a table), become one if it fits."""
    glued: list[_Span] = []
    for span in spans:
        last = glued[-1] if glued else None
        if last and last.weight + span.weight <= target and text[last.start : last.end].rstrip().endswith((":", "：")):
            glued[-1] = _Span(last.start, span.end, last.weight + span.weight)
        else:
            glued.append(span)
    return glued


def _pack(text: str, spans: Sequence[_Span], target: int) -> list[str]:
    """Neighbouring spans joined to chunks of about equal weight, none above `target` (unless one span is)."""
    total = sum(span.weight for span in spans)
    goal = total / max(1, -(-total // target))
    packed: list[str] = []
    start = end = weight = 0
    for span in spans:
        if weight and (weight + span.weight > target or weight + span.weight / 2 > goal):
            packed.append(text[start:end])
            start, weight = span.start, 0
        weight += span.weight
        end = span.end
    packed.append(text[start:end])
    return [piece.strip() for piece in packed if piece.strip()]


async def _spans(texts: Sequence[str], count: CountTokens, target: int) -> list[list[_Span]]:
    """For each text the spans that cover it, none heavier than `target` where it can be cut.

    One call of `count` for all texts at each level: time is linear in the characters.
    """
    done: list[list[_Span]] = [[] for _ in texts]
    heavy = [(owner, 0, len(text)) for owner, text in enumerate(texts) if text]
    for level in range(len(_LEVELS) + 2):
        cuts = [(owner, a, b) for owner, start, end in heavy for a, b in _cut(texts[owner], start, end, level)]
        counts = await count([well_formed(texts[owner][a:b]) for owner, a, b in cuts])
        heavy = []
        for (owner, a, b), tokens in zip(cuts, counts, strict=True):
            weight = max(tokens, -(-(b - a) // CHARACTERS_PER_TOKEN))
            if weight > target and level <= len(_LEVELS) and b - a > 1:
                heavy.append((owner, a, b))
            else:
                done[owner].append(_Span(a, b, weight))
        if not heavy:
            break
    for spans in done:
        spans.sort(key=lambda span: span.start)
    return done


def _cut(text: str, start: int, end: int, level: int) -> list[tuple[int, int]]:
    if level < len(_LEVELS):
        ends = [match.end() for match in _LEVELS[level].finditer(text, start, end)]
    elif level == len(_LEVELS):
        ends = _word_runs(text, start, end)
    else:
        ends = list(range(start + WORD_RUN // 4, end, WORD_RUN // 4))
    edges = [start, *(edge for edge in ends if start < edge < end), end]
    return list(itertools.pairwise(edges))


def _word_runs(text: str, start: int, end: int) -> list[int]:
    """Where to cut so that pieces are whole words, about `WORD_RUN` characters of them; longer words are cut."""
    ends = []
    for match in _WORD.finditer(text, start, end):
        if match.end() - start >= WORD_RUN:
            if match.start() > start:
                ends.append(match.start())
            ends += range(match.start() + WORD_RUN, match.end(), WORD_RUN)
            start = ends[-1] if ends else start
    return ends
