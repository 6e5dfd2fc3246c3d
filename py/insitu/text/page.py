"""A page as the stages hand it on: its sections, without markup."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """Text under one heading, or one entry of a definition list that has an id (an API entry, a glossary term).

    `text`: paragraphs are parted by an empty line, code and tables keep their lines. `level` is 1 to 6 for headings,
    one more than its surroundings for an entry, 0 for what comes before any heading. After an entry the section around
    it goes on as a further `Section` with the same heading and anchor, so text stays in the order of the page.
    """

    heading: str
    anchor: str
    text: str
    level: int


@dataclass(frozen=True)
class Page:
    """`url` is relative to the site's root. No sections: the page has no text, or asks not to be indexed."""

    url: str
    title: str
    sections: tuple[Section, ...]
