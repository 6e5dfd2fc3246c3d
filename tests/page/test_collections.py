"""Collections in the page: put, delete and search in a real browser, with the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from page.conftest import caught
from page.texts import PAGES, QUESTIONS

NOTES: list[dict[str, Any]] = [
    {"id": "car", "text": "I parked the blue car behind the town hall.", "fields": {"tag": "home", "date": 20260105}},
    {"id": "cat", "text": "The cat wants dry food.", "title": "Minka", "fields": {"tag": "home", "date": 20251224}},
    {"id": "tax", "text": "Income tax is due at the end of May.", "fields": {"tag": "work", "date": 20250531}},
    {"id": "tyre", "text": "The spare inner tube lies under the saddle."},
]
MAKE = """async ([name, options, notes]) => {
    window.notes = await insitu.collection(name, options);
    return notes && await window.notes.put(notes);
}"""
FIELDS = {"tag": "keyword", "date": "number"}


@pytest.fixture(scope="module", params=[False, True], ids=["scan", "rescore"])
def notes(opened: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    done = opened.evaluate(MAKE, [f"{__name__} {request.param}", {"fields": FIELDS, "rescore": request.param}, NOTES])
    assert done == {"embedded": 4, "unchanged": 0, "passages": 4}
    yield opened


def search(page: Page, query: str | None, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("([q, options]) => notes.search(q, options)", [query, options])
    return found


def ids(page: Page, query: str | None, **options: Any) -> list[str]:
    return [hit["id"] for hit in search(page, query, **options)]


@pytest.mark.parametrize(
    ("question", "wanted"),
    [("where did I park", "car"), ("what does my pet eat", "cat"), ("when must I pay the state", "tax")],
)
def test_notes_are_found_by_meaning(notes: Page, question: str, wanted: str) -> None:
    hits = search(notes, question)
    assert len(hits) == len(NOTES)
    note = next(note for note in NOTES if note["id"] == wanted)
    assert (hits[0]["id"], hits[0]["text"], hits[0]["title"]) == (wanted, note["text"], note.get("title", ""))
    assert hits[0]["fields"] == note["fields"] and -1 <= hits[0]["score"] <= 1
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_filters_choose_before_the_scan(notes: Page) -> None:
    assert ids(notes, "where did I park", where={"tag": "work"}) == ["tax"]
    assert sorted(ids(notes, "a", where={"date": {"gte": 20251224}})) == ["car", "cat"]
    assert sorted(ids(notes, "a", where={"not": {"tag": "home"}})) == ["tax", "tyre"]
    assert ids(notes, None, where={"tag": "home"}) == ["cat", "car"]
    assert ids(notes, "a", where={"tag": "none such"}) == []


def test_words_are_ordered_as_in_python(opened: Page) -> None:
    tags = [
        "",
        "a",
        "b",
        "\ud83d",
        "\ud83da",
        "\ue000",
        "\uffff",
        "\U0001f600",
        "\U0001f600a",
        "\U0001f601",
        "a\U0001f600",
    ]
    put = [{"id": str(i), "text": "a note", "fields": {"tag": tag}} for i, tag in enumerate(tags)]
    # Put before the first filter: the order is that of the page's script.
    opened.evaluate(MAKE, ["ordered", {"fields": {"tag": "keyword"}}, None])
    opened.evaluate("(all) => notes.put(JSON.parse(all))", json.dumps(put))
    for tag in tags:
        found = opened.evaluate(
            "async (where) => (await notes.search(null, {where: JSON.parse(where)})).map(({ id }) => Number(id))",
            json.dumps({"tag": {"gt": tag}}),
        )
        assert sorted(found) == [i for i, other in enumerate(tags) if other > tag], ascii(tag)


def test_a_text_that_did_not_change_is_not_embedded_again(notes: Page) -> None:
    put = "async (all) => [await notes.put(all), (await insitu.stats()).runs.batches]"
    runs = notes.evaluate("async () => (await insitu.stats()).runs.batches")
    changed = [{**NOTES[0], "fields": {"tag": "street"}}, *NOTES[1:]]
    assert notes.evaluate(put, changed) == [{"embedded": 0, "unchanged": 4, "passages": 0}, runs]
    assert ids(notes, None, where={"tag": "street"}) == ["car"]
    assert notes.evaluate(put, NOTES)[1] == runs
    assert ids(notes, None, where={"tag": "street"}) == []


def test_deleted_and_replaced_texts_are_found_no_more(notes: Page) -> None:
    assert notes.evaluate("notes.delete(['tax', 'none such'])") == 1
    notes.evaluate("notes.put([{id: 'cat', text: 'The aquarium leaks.'}])")
    assert sorted(ids(notes, "when must I pay the state")) == ["car", "cat", "tyre"]
    assert all(hit["text"] != "The cat wants dry food." for hit in search(notes, "what does my pet eat"))
    assert ids(notes, "fish tank", k=1) == ["cat"]
    stats = notes.evaluate("notes.stats()")
    assert (stats["documents"], stats["passages"], stats["dead"], stats["missing"]) == (3, 3, 2, 0)
    assert stats["device"] == notes.evaluate("insitu.stats()")["device"] and stats["device"]["used"] == "wasm"
    notes.evaluate("(all) => notes.put(all)", NOTES)


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("notes.put([{id: 'a', text: 'b'}, {id: 'a', text: 'c'}])", "invalid-document"),
        ("notes.put([{id: 1, text: 'b'}])", "invalid-document"),
        ("notes.put([{id: 'a', text: ''}])", "invalid-document"),
        ("notes.put([{id: 'a'}])", "invalid-document"),
        ("notes.put([null])", "invalid-document"),
        ("notes.put([{id: 'a', text: 'b', fields: {tag: 7}}])", "invalid-document"),
        ("notes.put([{id: 'a', text: 'b', fields: {date: NaN}}])", "invalid-document"),
        ("notes.put([{id: 'a', text: 'b', fields: {date: 7n}}])", "invalid-document"),
        ("notes.put([{id: 'a', text: 'b', fields: {other: 7}}])", "invalid-document"),
        ("notes.put('text')", "invalid-argument"),
        ("notes.delete('car')", "invalid-argument"),
        ("notes.delete([7])", "invalid-argument"),
        ("notes.search('a', {k: 0})", "invalid-argument"),
        ("notes.search('a', {k: 1e6})", "invalid-argument"),
        ("notes.search('a', {k: NaN})", "invalid-argument"),
        ("notes.search('')", "empty-query"),
        ("notes.search()", "invalid-argument"),
        ("notes.search('a', {where: {tag: {like: 'x'}}})", "invalid-filter"),
        ("notes.search('a', {where: {other: 'x'}})", "invalid-filter"),
        ("notes.search('a', {where: []})", "invalid-filter"),
        ("insitu.collection('')", "invalid-argument"),
        ("insitu.collection('new', {fields: {tag: 'text'}})", "invalid-argument"),
        ("insitu.collection('new', {dim: 1000})", "dim-unsupported"),
        ("insitu.collection('new', {filed: {}})", "invalid-argument"),
        ("insitu.collection(notes.name, {fields: {tag: 'number'}})", "invalid-argument"),
        ("insitu.collection(notes.name, {dim: 64})", "invalid-argument"),
    ],
)
def test_bad_input_is_a_named_error_and_changes_nothing(notes: Page, act: str, code: str) -> None:
    before = notes.evaluate("async () => [await notes.search(null, {where: {}}), (await notes.stats()).revision]")
    name, found, message = caught(notes, act)
    assert found == code, (name, message)
    after = notes.evaluate("async () => [await notes.search(null, {where: {}}), (await notes.stats()).revision]")
    assert after == before


def test_any_string_is_an_id(opened: Page, name: str) -> None:
    odd = ["", " ", "a\0b", "é", "e\u0301", "🙂", "__proto__", "constructor", "x" * 5000]
    opened.evaluate(MAKE, [name, {}, [{"id": id, "text": f"text {i}"} for i, id in enumerate(odd)]])
    opened.evaluate("notes.put([{id: '\\ud800', text: 'a lone \\udc00 surrogate'}])")
    found = opened.evaluate("async () => (await notes.search('text', {k: 50})).map(({ id }) => JSON.stringify(id))")
    assert sorted(json.loads(id) for id in found if "ud800" not in id) == sorted(odd)
    assert [id for id in found if "ud800" in id] == ['"\\ud800"']
    assert opened.evaluate("(ids) => notes.delete(ids)", odd) == len(odd)
    assert opened.evaluate("async () => (await notes.search('text')).length") == 1


def test_a_long_document_gives_one_hit_with_its_passage(opened: Page, name: str) -> None:
    long = "\n\n".join(f"{html}" for html in PAGES.values())
    opened.evaluate(MAKE, [name, {}, [{"id": "long", "text": long * 3}, NOTES[3]]])
    (hit,) = [hit for hit in search(opened, next(iter(QUESTIONS))) if hit["id"] == "long"]
    assert hit["text"] in long * 3
    assert 0 < len(hit["text"]) < len(long) / 4
    assert len(ids(opened, "tube")) == 2


def test_a_passage_after_characters_of_two_units_is_cut_where_python_cut_it(opened: Page, name: str) -> None:
    text = "\n\n".join(f"\U0001f600\U0001f4da {html}" for html in PAGES.values()) * 3
    opened.evaluate(MAKE, [name, {}, [{"id": "long", "text": text}]])
    exported = opened.evaluate("async () => (await (await notes.export()).text()).split('\\n')[1]")
    (document,) = json.loads(exported)["documents"]
    cuts = document["cuts"]
    passages = {document["text"][start:end] for start, end in zip(cuts[::2], cuts[1::2], strict=True)}
    assert len(passages) > 2
    for question in QUESTIONS:
        assert search(opened, question)[0]["text"] in passages


def test_an_abort_leaves_what_was_committed_and_goes_on_from_there(opened: Page, name: str) -> None:
    many = [{"id": str(i), "text": f"Note {i}: it is {i} o'clock."} for i in range(300)]
    opened.evaluate(MAKE, [name, {}, None])
    put = """async (all) => {
        const stop = new AbortController();
        const steps = [];
        const onProgress = (done, total) => { steps.push([done, total]); if (done >= 140) stop.abort(); };
        const code = await notes.put(all, {signal: stop.signal, onProgress}).then(() => 'done', (error) => error.code);
        return [code, (await notes.stats()).documents, steps.at(-1)[1]];
    }"""
    assert opened.evaluate(put, many) == ["aborted", 128, 300]
    again = opened.evaluate("(all) => notes.put(all)", many)
    assert (again["embedded"], again["unchanged"]) == (172, 128)
    assert opened.evaluate("async () => (await notes.stats()).documents") == 300
