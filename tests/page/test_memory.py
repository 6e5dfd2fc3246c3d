"""Memory that nobody needs any more is given back, before any garbage is collected."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page

from conftest import ROOT

SIZE = 150_000_000
# What was given to a part of the browser once is the hard case: that keeps a hold of its own on it.
USES = {
    "untouched": "",
    "digested": "await crypto.subtle.digest('SHA-256', bytes);",
    "stored": "await (await caches.open('t')).put('/t', new Response(bytes.subarray(0, 4096)));",
}
LET_GO = """async ({size, given}) => {
    const { release } = await import('/parts.js');
    const bytes = new Uint8Array(size).fill(1);
    USE
    if (given) release(bytes);
    else window.held = bytes;
    await new Promise((done) => setTimeout(done, 300));
    return bytes.length;
}"""


@pytest.mark.parametrize("use", USES)
def test_a_released_buffer_is_given_back_at_once(
    opened: Page, browser: Browser, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    from processes import held, of_kind

    def resident() -> dict[int, int]:
        return {process: held(process, "VmRSS") for process in of_kind(browser, "renderer")}

    session = opened.context.new_cdp_session(opened)

    def grown(given: bool) -> tuple[dict[int, int], int]:
        for _ in range(2):  # what others left must not go meanwhile
            session.send("HeapProfiler.collectGarbage")
            opened.wait_for_timeout(300)
        before = resident()
        left: int = opened.evaluate(LET_GO.replace("USE", USES[use]), {"size": SIZE, "given": given})
        return {process: size - before.get(process, size) for process, size in resident().items()}, left

    opened.evaluate("import('/parts.js')")
    kept, whole = grown(given=False)
    page = max(kept, key=lambda process: kept[process])
    assert kept[page] > 0.7 * SIZE and whole == SIZE  # so the measure is one
    gone, nothing = grown(given=True)
    assert gone[page] < 0.3 * SIZE and nothing == 0
    opened.evaluate("delete window.held")
    session.detach()
