"""A page of HTML to its sections: what a reader reads, and the anchors that lead there.

Only CPython needs this (a site is indexed there); it is the one module that imports `selectolax`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

from insitu.text.encoding import decode
from insitu.text.page import Page, Section


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SKIPPED = _names(
    "script style noscript template nav footer button select textarea input label datalist iframe object embed canvas "
    "audio video svg dialog annotation head"
)
# Only outside of main and article: inside, a header holds the headline and an aside is a note of the author's.
SKIPPED_OUTSIDE = _names("header aside")
SKIPPED_ROLES = _names("navigation search banner contentinfo dialog menu menubar toolbar")
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = _names(
    "address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption figure footer form "
    "header hr html legend main menu nav ol p pre section summary table tbody tfoot thead ul"
)
# A list or table with this many links, of whose text at least this share is inside them, leads elsewhere: a table of
# contents, an index, a menu. Its targets are indexed themselves.
NAV_LINKS, NAV_SHARE = 5, 0.8
LAYOUT = "h1, h2, h3, h4, h5, h6, table, pre, p + p"  # a table with one of these holds blocks, not values

_PERMALINK_CLASSES = _names("headerlink hash-link header-anchor heading-link anchorjs-link")
_WORD = re.compile(r"\w")
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n(?:[^\S\n]*\n)+")


def read_page(data: bytes, url: str, *, encoding: str | None = None) -> Page:
    """The sections of one HTML file. Raises `WrongEncoding`; broken markup is read as browsers read it.

    `encoding` overrides what the page declares. A page with `<meta name="robots" content="noindex">` gives no sections.
    """
    tree = LexborHTMLParser(decode(data, url, encoding))
    title_node = tree.css_first("head > title")
    title = _line(title_node.text()) if title_node is not None else ""
    if title.startswith("<no title>"):  # what Sphinx writes for a page without a headline
        title = ""
    body = tree.body
    if body is None or _noindex(tree):
        return Page(url, title or url, ())
    roots = _outermost(body.css("main, [role=main]")) or _outermost(body.css("article"))
    reader = _Reader(inside=bool(roots))
    for root in roots or [body]:
        reader.read(root)
    sections = reader.sections if any(section.text for section in reader.sections) else []
    return Page(url, _title(title, sections) or url, tuple(sections))


def _noindex(tree: LexborHTMLParser) -> bool:
    for meta in tree.css("meta[name]"):
        attributes = meta.attributes
        if (attributes.get("name") or "").lower() == "robots":
            return "noindex" in (attributes.get("content") or "").lower()
    return False


def _outermost(nodes: list[LexborNode]) -> list[LexborNode]:
    """Without those inside another. `nodes` are in document order, so an inner one follows its outer one."""
    kept: list[LexborNode] = []
    seen: set[int] = set()
    for node in nodes:
        parent = node.parent
        while parent is not None and parent.mem_id not in seen:
            parent = parent.parent
        if parent is None:
            kept.append(node)
            seen.add(node.mem_id)
    return kept


def _title(title: str, sections: list[Section]) -> str:
    """The page's own name: its first headline where <title> only adds the site's name to it."""
    top = next((section.heading for section in sections if section.level == 1 and section.heading), "")
    if not title or not top:
        return title or top
    low, short = title.casefold(), top.casefold()
    if low.startswith(short) or low.endswith(short):
        return top
    return title


def _line(text: str) -> str:
    return " ".join(text.split())


GAPS = ("", " ", " | ", "\n", "\n\n")  # weakest first: between words, cells, lines, paragraphs


class _Text:
    """Collects running text as a browser lays it out: spaces collapse, blocks are parted, `pre` stays as it is."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._gap = ""
        self._glued = False

    def add(self, text: str) -> None:
        words = text.split()
        if not words:
            self.gap(" ")
            return
        if text[0].isspace():
            self.gap(" ")
        self._put(" ".join(words))
        if text[-1].isspace():
            self._gap = " "

    def raw(self, text: str) -> None:
        if text:
            self._put(text)

    def gap(self, gap: str) -> None:
        """Part what follows by at least `gap`, one of `GAPS`."""
        if not self._glued and GAPS.index(gap) > GAPS.index(self._gap):
            self._gap = gap

    def glue(self) -> None:
        """Part what follows by a new line and no more: a term and its definition stay together."""
        self._gap = "\n"
        self._glued = True

    def _put(self, text: str) -> None:
        if self._gap and self.parts:
            self.parts.append(self._gap)
        self._gap = ""
        self._glued = False
        self.parts.append(text)

    def take(self) -> str:
        text = _BLANK_LINES.sub("\n\n", "".join(self.parts).strip())
        self.parts.clear()
        self._gap = ""
        self._glued = False
        return text


@dataclass
class _Scope:
    """The heading that text belongs to just now."""

    heading: str
    anchor: str
    level: int


class _Reader:
    """Walks a tree once, without recursion (pages nest as deep as they like), and collects sections."""

    def __init__(self, *, inside: bool) -> None:
        self.sections: list[Section] = []
        self._inside = inside
        self._text = _Text()
        self._scope = _Scope("", "", 0)
        self._lists: list[_Scope] = []  # the scope around each open dl
        self._title: _Text | None = None  # the text of the heading or dt that is open
        self._anchor = ""  # the anchor of that heading
        self._alias = False  # an entry has been named and not yet described: a further dt is another name of it
        self._pending = ""  # the id of a section, or the name of an <a>, with no text after it yet
        self._pre = self._cells = 0
        self._checked = 0  # depth of lists and tables that were looked at and are no navigation

    def read(self, root: LexborNode) -> None:
        node, stack = root, []
        while True:
            tag = node.tag
            entered = self._enter(node, tag)
            child = node.first_child if entered else None
            if child is not None:
                stack.append((node, tag, entered))
                node = child
                continue
            if entered:
                self._leave(tag, entered)
            while stack:
                following = node.next
                if following is not None:
                    node = following
                    break
                node, tag, entered = stack.pop()
                self._leave(tag, entered)
            else:
                break
        self._flush()

    def _enter(self, node: LexborNode, tag: str | None) -> str:
        """What to undo on leaving, '' to skip the node."""
        if tag == "-text":
            self._add(node.text_content or "")
            return ""
        if tag is None or tag in SKIPPED or tag[0] in "-!":
            return ""
        attributes = node.attributes
        if attributes and self._is_hidden(tag, attributes):
            return ""
        if not self._inside and tag in SKIPPED_OUTSIDE:
            return ""
        if tag in HEADINGS:
            return self._open_heading(node, attributes)
        ident = attributes.get("id") or ""
        if tag == "dt" and ident and self._lists:
            return self._open_entry(ident)
        if self._title is not None:
            return self._enter_in_heading(node, tag, attributes)
        if tag in ("section", "div", "article") and ident:
            self._pending = ident
        elif tag == "a" and (ident or attributes.get("name")):
            self._pending = ident or attributes.get("name") or ""
        return self._enter_block(node, tag, attributes)

    def _enter_block(self, node: LexborNode, tag: str, attributes: dict[str, str | None]) -> str:
        if tag == "br":
            self._text.gap("\n" if not self._cells else " ")
            return ""
        if tag == "img":
            alt = attributes.get("alt") or ""
            self._add(f" {alt} " if _WORD.search(alt) else " ")
            return ""
        if tag == "form" and node.css_first("h1, h2, h3, p") is None:
            return ""  # a form that holds a whole page (some frameworks) is read, a search box is not
        if tag in ("ul", "ol", "table"):
            if not self._checked and _is_navigation(node):
                return ""
            self._checked += 1
            self._part("\n\n" if self._checked == 1 else "\n")
            return "list"
        if tag in ("td", "th"):
            if node.prev is not None:
                self._text.gap(" | ")
            if _layout_cell(node):
                self._part("\n\n")
                return "block"
            self._cells += 1
            return "cell"
        if tag in ("tr", "li"):
            self._part("\n")
            return "line"
        if tag == "pre":
            self._part("\n\n")
            self._pre += 1
            return "pre"
        if tag == "dl":
            self._lists.append(self._scope)
            self._part("\n\n")
            return "dl"
        if tag == "dt":
            self._part("\n\n")
            return "term"
        if tag == "dd":
            self._alias = False
            return "block"
        if tag in BLOCKS:
            self._part("\n\n" if not self._checked else "\n")
            return "block"
        if tag == "main" or tag == "article":
            return "block"
        return "inline"

    def _enter_in_heading(self, node: LexborNode, tag: str, attributes: dict[str, str | None]) -> str:
        if tag == "a":
            href = attributes.get("href") or ""
            classes = set((attributes.get("class") or "").split())
            if href.startswith("#") and (classes & _PERMALINK_CLASSES or not _WORD.search(node.text())):
                self._anchor = self._anchor or href[1:]
                return ""
            self._anchor = self._anchor or attributes.get("name") or ""
        self._anchor = self._anchor or attributes.get("id") or ""
        if tag in BLOCKS or tag == "br":
            self._add(" ")
        return "inline"

    def _open_heading(self, node: LexborNode, attributes: dict[str, str | None]) -> str:
        if self._title is not None:  # a heading inside a heading or a dt: part of its text
            return "inline"
        self._flush()
        self._title = _Text()
        self._anchor = attributes.get("id") or ""
        return "heading"

    def _open_entry(self, ident: str) -> str:
        if self._title is not None:
            return "inline"
        if self._alias:
            self._title = _Text()
            return "alias"
        self._flush()
        self._title = _Text()
        self._anchor = ident
        return "entry"

    def _leave(self, tag: str | None, entered: str) -> None:
        if entered == "inline":
            return
        if entered == "block":
            self._part("\n\n" if not self._checked else "\n")
        elif entered == "line":
            self._part("\n")
        elif entered == "term":
            self._text.glue()
        elif entered == "list":
            self._checked -= 1
            self._part("\n\n" if not self._checked else "\n")
        elif entered == "cell":
            self._cells -= 1
        elif entered == "pre":
            self._pre -= 1
            self._part("\n\n")
        elif entered == "dl":
            around = self._lists.pop()
            if self._scope is not around:
                self._flush()
                self._scope = around
            self._part("\n\n")
        else:
            self._close_title(tag, entered)

    def _close_title(self, tag: str | None, entered: str) -> None:
        assert self._title is not None
        heading, self._title = _line(self._title.take()), None
        if entered == "alias":
            self._text.add(heading)
            self._text.glue()
            return
        self._alias = entered == "entry"
        if entered == "entry":
            self._scope = _Scope(heading, self._anchor, self._lists[-1].level + 1)
        elif heading:
            self._scope = _Scope(heading, self._anchor or self._pending, HEADINGS[tag or "h6"])
        self._pending = ""
        if heading:
            # Kept even if no text follows: the headings around a section are part of what it says.
            self.sections.append(Section(heading, self._scope.anchor, "", self._scope.level))

    def _is_hidden(self, tag: str, attributes: dict[str, str | None]) -> bool:
        if "data-insitu-ignore" in attributes or attributes.get("aria-hidden") == "true":
            return True
        if "hidden" in attributes and attributes["hidden"] != "until-found":
            return True
        if attributes.get("role") in SKIPPED_ROLES:
            return True
        return tag in ("td", "div", "span", "pre") and (attributes.get("class") or "").startswith("lineno")

    def _add(self, text: str) -> None:
        if self._title is not None:
            self._title.add(text)
        elif self._pre:
            self._text.raw(text.replace("\r\n", "\n"))
        else:
            if self._pending and not text.isspace():
                self._pending = ""
            self._text.add(text)

    def _part(self, gap: str) -> None:
        if self._title is None:
            self._text.gap(" " if self._cells else gap)

    def _flush(self) -> None:
        text, scope = self._text.take(), self._scope
        if not text:
            return
        last = self.sections[-1] if self.sections else None
        section = Section(scope.heading, scope.anchor, text, scope.level)
        if last is not None and not last.text and (last.heading, last.anchor) == (scope.heading, scope.anchor):
            self.sections[-1] = section
        else:
            self.sections.append(section)


def _is_navigation(node: LexborNode) -> bool:
    links = node.css("a[href]")
    if len(links) < NAV_LINKS:
        return False
    linked = sum(len("".join(link.text().split())) for link in links)
    return linked >= NAV_SHARE * len("".join(node.text().split()))


def _layout_cell(node: LexborNode) -> bool:
    return node.css_first(LAYOUT) is not None
