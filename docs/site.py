"""Makes the documentation site: python docs/site.py FOLDER.

Every Markdown file here, with DESIGN.md and CHANGELOG.md, becomes a page of plain HTML whose headings have anchors.
A page that is as it was is not written again, and an index beside the pages is left alone.
"""

from __future__ import annotations

import html
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCS = Path(__file__).resolve().parent
# The order of the menu. A page that is not named here comes last.
ORDER = (
    "index",
    "getting-started",
    "indexing",
    "search-page",
    "javascript",
    "collections",
    "python",
    "notebooks",
    "cli",
    "models",
    "offline",
    "errors",
    "troubleshooting",
    "index-format",
    "development",
    "design",
    "changelog",
)


@dataclass(frozen=True)
class Page:
    name: str
    title: str
    body: str


def sources() -> Iterator[tuple[str, str]]:
    """(page name, Markdown) in the order of the menu."""
    texts = {path.stem: path.read_text("utf-8") for path in DOCS.glob("*.md")}
    texts |= {name.lower(): (DOCS.parent / f"{name}.md").read_text("utf-8") for name in ("DESIGN", "CHANGELOG")}
    for name in sorted(texts, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        yield name, texts[name]


def slug(text: str, taken: set[str]) -> str:
    """An anchor for a heading: its words in lower case, joined by hyphens, told apart by a number."""
    base = "-".join(re.findall(r"\w+", text.lower())) or "section"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def render(name: str, text: str) -> Page:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    title, taken = name, set[str]()
    for heading, content in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            words = plain(content)
            title = words if heading.tag == "h1" else title
            anchor = slug(words, taken)
            heading.attrSet("id", anchor)
            link = Token("html_inline", "", 0, content=f' <a class="anchor" href="#{anchor}" aria-hidden="true">#</a>')
            if content.children is not None and heading.tag != "h1":
                content.children.append(link)
    for token in tokens:
        for child in token.children or ():
            target = child.attrGet("href")
            if child.type == "link_open" and isinstance(target, str) and "://" not in target:
                child.attrSet(
                    "href", re.sub(r"^(?:\.\./|docs/)?([\w-]+)\.md", lambda m: m[1].lower() + ".html", target)
                )
    return Page(name, title, markdown.renderer.render(tokens, markdown.options, {}))


def plain(content: Token) -> str:
    return "".join(child.content for child in content.children or () if child.type in ("text", "code_inline"))


def layout(page: Page, pages: list[Page]) -> str:
    links = "\n".join(
        f'<li><a href="{name}.html"{" aria-current=page" if name == page.name else ""}>{html.escape(title)}</a></li>'
        for name, title in [(other.name, other.title) for other in pages]
    )
    title = page.title if page.name == "index" else f"{page.title} - insitu"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="stylesheet" href="site.css">
<link rel="icon" href="data:,">
</head>
<body>
<header>
<a class="name" href="index.html">insitu</a>
<form action="insitu/search.html" role="search" data-insitu-ignore>
<input name="q" type="search" placeholder="Ask a question" aria-label="Ask a question"> <button>Search</button>
</form>
</header>
<nav aria-label="Pages"><ul>
{links}
</ul></nav>
<main>
{page.body}</main>
</body>
</html>
"""


def write(path: Path, content: bytes) -> None:
    """Write unless the file is as wanted: its time stays."""
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pages = [render(name, text) for name, text in sources()]
    for page in pages:
        write(out / f"{page.name}.html", layout(page, pages).encode())
    for asset in [*DOCS.glob("*.css"), *DOCS.glob("*.png")]:
        write(out / asset.name, asset.read_bytes())
    for old in out.glob("*.html"):
        if old.stem not in {page.name for page in pages}:
            old.unlink()
    print(f"{len(pages)} pages in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/site.py FOLDER")
    main(Path(sys.argv[1]))
