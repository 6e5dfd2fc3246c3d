"""Reading pages: what is kept, what is left out, which anchor leads there."""

from __future__ import annotations

import codecs
import time

import pytest

from insitu.errors import WrongEncoding
from insitu.text.html import read_page
from insitu.text.page import Page, Section


def read(body: str, head: str = "") -> Page:
    html = f"<!doctype html><html><head><meta charset=utf-8>{head}</head><body>{body}</body></html>"
    return read_page(html.encode(), "a.html")


def texts(page: Page) -> str:
    return "\n".join(f"{section.heading}\n{section.text}" for section in page.sections)


def test_headings_part_a_page_and_carry_their_anchors() -> None:
    page = read("<main><h1 id=top>Guide</h1><p>First.<p>Second.<h2 id=more>More</h2><p>Third.</main>")
    assert page.sections == (
        Section("Guide", "top", "First.\n\nSecond.", 1),
        Section("More", "more", "Third.", 2),
    )


@pytest.mark.parametrize(
    ("markup", "anchor"),
    [
        ('<h2 id="own">H</h2>', "own"),
        ('<h2><a name="inner"></a>H</h2>', "inner"),
        ('<h2><span id="inner">H</span></h2>', "inner"),
        ('<a name="before"></a><h2>H</h2>', "before"),
        ('<section id="around"><h2>H</h2></section>', "around"),
        ('<section id="a"><span id="x"></span><h2>H<a class="headerlink" href="#a">¶</a></h2></section>', "a"),
        ('<h2>H<a class="hash-link" href="#link" aria-label="Direct link">​</a></h2>', "link"),
        ('<h2>H <a class="headerlink" href="#link" title="Permalink">Permalink to H</a></h2>', "link"),
        ("<h2>H</h2>", ""),
        ('<section id="old"><p>Text.</p><h2>H</h2></section>', ""),
    ],
)  # fmt: skip
def test_the_anchor_of_a_heading_is_found_wherever_a_generator_puts_it(markup: str, anchor: str) -> None:
    page = read(f"<main>{markup}<p>Text of it.</p></main>")
    section = page.sections[-1]
    assert (section.heading, section.anchor) == ("H", anchor)


def test_a_heading_that_is_a_link_keeps_its_words() -> None:
    page = read('<main><h2><a href="#x">How to begin</a></h2><p>So.</main>')
    assert page.sections[0].heading == "How to begin"


def test_entries_of_a_definition_list_have_their_own_anchor_and_the_text_goes_on_after_them() -> None:
    page = read(
        """<main><h1 id="m">os</h1><p>Before.</p>
        <dl class="py"><dt id="os.walk">os.walk(<em>top</em>)<a class="headerlink" href="#os.walk">¶</a></dt>
        <dd><p>Walk a tree.</p><dl><dt id="os.walk.inner">inner</dt><dd>Nested.</dd></dl><p>More of walk.</p></dd></dl>
        <p>After.</p></main>"""
    )
    assert [(s.heading, s.anchor, s.text, s.level) for s in page.sections] == [
        ("os", "m", "Before.", 1),
        ("os.walk(top)", "os.walk", "Walk a tree.", 2),
        ("inner", "os.walk.inner", "Nested.", 3),
        ("os.walk(top)", "os.walk", "More of walk.", 2),
        ("os", "m", "After.", 1),
    ]


def test_names_of_one_entry_stay_together() -> None:
    page = read('<main><dl><dt id="a.A">A</dt><dt id="a.B">B</dt><dt id="a.C">C</dt><dd>Said of all.</dd></dl></main>')
    assert page.sections == (Section("A", "a.A", "B\nC\nSaid of all.", 1),)


@pytest.mark.parametrize(
    "unwanted",
    [
        "<nav>gone</nav>", "<script>gone</script>", "<style>gone</style>", "<noscript>gone</noscript>",
        "<template>gone</template>", "<footer>gone</footer>", "<button>gone</button>", "<form>gone<input></form>",
        "<select><option>gone</select>", "<div hidden>gone</div>", '<div aria-hidden="true">gone</div>',
        '<div role="navigation">gone</div>', '<div role="search">gone</div>',
        "<div data-insitu-ignore><p>gone</p></div>", '<p data-insitu-ignore="">gone</p>', "<!-- gone -->",
        '<span class="lineno">gone</span>', "<svg><text>gone</text></svg>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["<main>{}</main>", "<article>{}</article>", "<div role=main>{}</div>", "{}"])
def test_what_no_reader_reads_is_left_out(unwanted: str, around: str) -> None:
    page = read(around.format(f"<h1>Title</h1><p>Kept one.</p>{unwanted}<p>Kept two.</p>"))
    assert "gone" not in texts(page)
    assert page.sections[0].text == "Kept one.\n\nKept two."


def test_outside_of_main_nothing_is_read() -> None:
    page = read("<header>gone</header><aside>gone</aside><p>gone</p><main><h1>T</h1><p>Kept.</p></main><p>gone</p>")
    assert texts(page) == "T\nKept."


def test_without_main_the_body_is_read_without_its_frame() -> None:
    page = read("<header>gone</header><h1>T</h1><p>Kept.</p><aside>gone</aside><footer>gone</footer>")
    assert texts(page) == "T\nKept."


def test_a_header_inside_an_article_holds_its_headline() -> None:
    page = read("<article><header><h1 id=x>Headline</h1></header><p>Text.</p><aside>Note.</aside></article>")
    assert page.sections == (Section("Headline", "x", "Text.\n\nNote.", 1),)


def test_lists_of_links_are_navigation_and_lists_with_words_are_not() -> None:
    links = "".join(f'<li><a href="{n}.html">Page number {n}</a></li>' for n in range(8))
    said = "".join(f'<li><a href="{n}.html">Page {n}</a>: what it tells, in some words</li>' for n in range(8))
    page = read(f"<main><h1>T</h1><ul>{links}</ul><ul>{said}</ul></main>")
    assert "Page number" not in texts(page)
    assert "Page 7: what it tells" in texts(page)


def test_code_keeps_its_lines_and_its_indentation() -> None:
    page = read("<main><p>So:</p><pre><span>def f():</span>\n    return 1\n</pre><p>Done.</p></main>")
    assert page.sections[0].text == "So:\n\ndef f():\n    return 1\n\nDone."


def test_tables_are_read_row_by_row() -> None:
    page = read(
        "<main><table><thead><tr><th>Name</th><th>Meaning</th></tr></thead>"
        "<tr><td><p>a</p></td><td><p>first</p></td></tr><tr><td>b</td><td>second</td></tr></table></main>"
    )
    assert page.sections[0].text == "Name | Meaning\na | first\nb | second"


def test_words_are_parted_where_a_browser_parts_them_and_nowhere_else() -> None:
    page = read("<main><p>one<b>two</b> <i>three</i>\n  four<br>five&nbsp;six<p>seven</main>")
    assert page.sections[0].text == "onetwo three four\nfive six\n\nseven"


@pytest.mark.parametrize(
    ("title", "heading", "expected"),
    [
        ("os — Files — Python 3.11 documentation", "os — Files", "os — Files"),
        ("My site | Getting started", "Getting started", "Getting started"),
        ("A page", "Another headline", "A page"),
        ("", "Only a headline", "Only a headline"),
        ("", "", "a.html"),
    ],
)
def test_the_title_is_the_pages_own_name(title: str, heading: str, expected: str) -> None:
    headline = f"<h1>{heading}</h1>" if heading else ""
    assert read(f"<main>{headline}<p>x</main>", f"<title>\n {title} </title>").title == expected


def test_a_page_that_asks_not_to_be_indexed_has_no_sections() -> None:
    assert read("<main><p>x</main>", '<meta name="robots" content="NoIndex, follow">').sections == ()
    assert read("<main data-insitu-ignore><p>x</main>").sections == ()
    assert read("<nav>x</nav>").sections == ()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("<p>Grüße</p>".encode(), "UTF-8 unmarked"),
        (codecs.BOM_UTF8 + "<p>Grüße</p>".encode(), "UTF-8 with a mark"),
        (codecs.BOM_UTF16_LE + "<p>Grüße</p>".encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_BE + "<p>Grüße</p>".encode("utf-16-be"), "UTF-16, big end first"),
        ('<meta charset="iso-8859-1"><p>Grüße</p>'.encode("latin-1"), "Latin 1"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>Grüße</p>'.encode("cp1252"),
            "old",
        ),
        ('<meta charset="utf-16"><p>Grüße</p>'.encode(), "a meta that cannot be true"),
    ],
)
def test_pages_are_read_in_the_encoding_a_browser_reads_them_in(data: bytes, name: str) -> None:
    assert read_page(data, "a.html").sections[0].text == "Grüße"


def test_japanese_in_its_old_encoding() -> None:
    page = read_page('<meta charset="Shift_JIS"><p>日本語の①</p>'.encode("cp932"), "a.html")
    assert page.sections[0].text == "日本語の①"


@pytest.mark.parametrize(
    "data", [b"<p>caf\xe9</p>", b'<meta charset="utf-8"><p>caf\xe9</p>', b'<meta charset="klingon"><p>x</p>']
)
def test_a_wrong_encoding_is_told_with_the_page_and_a_way_out(data: bytes) -> None:
    with pytest.raises(WrongEncoding, match=r"docs/b\.html.*--encoding"):
        read_page(data, "docs/b.html")


def test_the_way_out_of_a_wrong_encoding_works() -> None:
    assert read_page(b'<meta charset="utf-8"><p>caf\xe9</p>', "b.html", encoding="latin-1").sections[0].text == "café"


def test_hostile_markup_takes_no_time_and_no_stack() -> None:
    started = time.monotonic()
    deep = read("<main>" + "<div>" * 20_000 + "<ul><li>" * 300 + "deep</main>")
    wide = read("<main>" + "<p>x" * 100_000 + "</main>")
    assert "deep" in texts(deep)
    assert len(wide.sections[0].text) == 3 * 100_000 - 2
    assert time.monotonic() - started < 20
