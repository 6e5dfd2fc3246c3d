"""What the compact tokenizer of Gemma costs in the page: memory, and time beside `@huggingface/tokenizers`.

Times are compared with each other in one page, never with a clock: the margins are wide, and a machine may be busy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page

from page.conftest import Serve
from page.texts import PAGES, QUESTIONS, SCRIPTS

LOAD = """async () => {
    const { readTokenizer } = await import('/parts.js');
    const bytes = new Uint8Array(await (await fetch('/gemma.bin')).arrayBuffer());
    const start = performance.now();
    window.ours = await readTokenizer(bytes, (file) => '/insitu/' + file);
    return performance.now() - start;
}"""
LOAD_OTHER = """async () => {
    const { readOtherTokenizer } = await import('/parts.js');
    const bytes = new Uint8Array(await (await fetch('/gemma.json')).arrayBuffer());
    await import('/insitu/tokenizer_other.js');
    const start = performance.now();
    window.other = await readOtherTokenizer(bytes, (file) => '/insitu/' + file);
    return performance.now() - start;
}"""
# The least of five rounds each, in turns; [ours, other] in ms, and whether the ids are the same.
ENCODE = """(texts) => {
    const run = (tokenizer) => {
        const start = performance.now();
        const ids = texts.map((text) => { const ids = []; tokenizer.encode(text, ids); return ids; });
        return [performance.now() - start, JSON.stringify(ids)];
    };
    const rounds = [1, 2, 3, 4, 5].map(() => [run(window.ours), run(window.other)]);
    const least = (i) => Math.min(...rounds.map((round) => round[i][0]));
    return [least(0), least(1), rounds[0][0][1] === rounds[0][1][1]];
}"""


@pytest.fixture
def blank(browser: Browser, serve_site: Serve, site: Path, gemma_json: Path, gemma_vocabulary: bytes) -> Page:
    (site / "gemma.bin").write_bytes(gemma_vocabulary)
    (site / "gemma.json").write_bytes(gemma_json.read_bytes())
    page = browser.new_page()
    page.goto(serve_site().address + "empty.html")
    page.evaluate(
        """() => {
            window.memories = [];
            const { Memory } = WebAssembly;
            WebAssembly.Memory = class extends Memory {
                constructor(...given) { super(...given); memories.push(this); }
            };
        }"""
    )
    return page


def megabytes(page: Page, session: CDPSession) -> float:
    """Objects and buffers of the page that are still in use, and the memory of WASM, which the browser does not count there."""
    session.send("HeapProfiler.collectGarbage")
    found: dict[str, Any] = session.send("Runtime.getHeapUsage")
    kernels = page.evaluate("memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0)")
    return float(found["usedSize"] + found["backingStorageSize"] + kernels) / 1e6


def test_memory_and_time_stay_within_their_budgets(blank: Page, capsys: pytest.CaptureFixture[str]) -> None:
    session = blank.context.new_cdp_session(blank)
    blank.evaluate("import('/parts.js').then(() => undefined)")
    before = megabytes(blank, session)
    load = blank.evaluate(LOAD)
    loaded = megabytes(blank, session) - before
    # Many different words, so that what it keeps of them is counted.
    blank.evaluate(
        """() => { for (let i = 0; i < 100000; i++) ours.encode(`word${i.toString(36)} and ${i * 7919}`, []); }"""
    )
    used = megabytes(blank, session) - before
    other_load = blank.evaluate(LOAD_OTHER)
    texts = [*SCRIPTS, *PAGES.values(), *QUESTIONS]
    ours, other, same = blank.evaluate(ENCODE, texts)
    with capsys.disabled():
        print(
            f"\n  load {load:.0f} ms, {loaded:.1f} MB, used {used:.1f} MB, {1000 * ours / len(texts):.0f} us a text; "
            f"@huggingface/tokenizers: load {other_load:.0f} ms, {1000 * other / len(texts):.0f} us a text"
        )
    assert same
    assert 5 < loaded < 20
    assert used < 20
    assert load < other_load / 2
    assert ours < other
    blank.close()
