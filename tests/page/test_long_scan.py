"""A collection whose scan takes several steps, in the page: made of an export with few documents of many passages."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

ROWS, DOCUMENTS = 4096, 66  # 270,336 vectors of 128: one step and a bit
MAKE = """async ([name, rows, documents]) => {
    const dim = 128;
    const [query] = await insitu.embed(['where did I park'], {task: 'query', dim});
    const small = await insitu.collection(`${name}, its space`);
    const {space} = await small.stats();
    const write = (value) => new TextEncoder().encode(JSON.stringify(value) + '\\n');
    const header = {format: 'insitu-collection', version: 1, space, dim, full: 0, fields: {}, documents};
    const parts = [write(header)];
    const cuts = Array.from({length: 2 * rows}, (_, i) => i % 2 ? 6 : 0);
    let seed = 1;
    for (let n = 0; n < documents; n++) {
        const document = {id: `note ${n}`, title: '', text: `text ${n}`, cuts, hash: `${n}`.padStart(32, '0'), fields: {}, rows};
        parts.push(write({documents: [document], rows}));
        const words = new Int32Array(rows * dim / 4);
        for (let i = 0; i < words.length; i++) words[i] = seed = Math.imul(seed, 1664525) + 1013904223;
        const codes = new Int8Array(words.buffer);
        for (let i = 0; i < codes.length; i++) codes[i] >>= 1;
        // In each document one passage is the question, and the more so the later the document.
        const most = Math.max(...query.map(Math.abs));
        query.forEach((value, i) => (codes[7 * dim + i] = Math.round(127 * value / most)));
        const scales = new Float32Array(rows).fill(1 / 64 / 40);
        scales[7] = most / 127 * (n + 1) / documents;
        parts.push(codes, new Uint8Array(scales.buffer));
    }
    const sum = await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer());
    const sha256 = [...new Uint8Array(sum)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    parts.push(write({end: true, sha256}));
    window.long = await insitu.import(name, new Blob(parts));
    return (await long.stats()).passages;
}"""


@pytest.fixture(scope="module")
def long(opened: Page) -> Page:
    assert opened.evaluate(MAKE, [__name__, ROWS, DOCUMENTS]) == ROWS * DOCUMENTS
    return opened


def test_the_best_of_all_steps_are_found(long: Page) -> None:
    hits = long.evaluate("long.search('where did I park', {k: 3})")
    assert [hit["id"] for hit in hits] == ["note 65", "note 64", "note 63"]
    assert 0.99 < hits[0]["score"] < 1.01


def test_a_search_beside_commits_answers_from_one_state(long: Page) -> None:
    """A document is replaced again and again while others ask: each answer has it once, and it is there in each."""
    answers = long.evaluate("""async () => {
        const put = (n) => long.put([{id: 'car', text: `where did I park ${'!'.repeat(n % 3)}`}]);
        await put(0);
        let writing = true;
        const asking = (async () => {
            const answers = [];
            while (writing) answers.push((await long.search('where did I park', {k: 60})).map(({id}) => id));
            return answers;
        })();
        for (let n = 1; n < 8; n++) await put(n);
        writing = false;
        return asking;
    }""")
    assert answers and all(answer.count("car") == 1 for answer in answers), answers


def test_an_aborted_search_ends_and_the_next_one_answers(long: Page) -> None:
    """Wherever the abort meets it, the scan included."""
    ended = long.evaluate("""async () => {
        const codes = [];
        for (let ms = 0; ms < 40; ms += 2) {
            const stopping = new AbortController();
            setTimeout(() => stopping.abort(), ms);
            codes.push(await long.search('where did I park', {signal: stopping.signal}).then(() => 'found', ({code}) => code));
        }
        return codes;
    }""")
    assert set(ended) <= {"found", "aborted"} and "aborted" in ended
    assert long.evaluate("long.search('where did I park', {k: 1})")[0]["id"] in ("note 65", "car")
