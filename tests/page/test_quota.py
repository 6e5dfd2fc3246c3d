"""Whether the browser keeps what is stored: no room, told before and met in the middle of a put; and its promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright

from conftest import CHROMIUM_ARGS, watched
from page.conftest import Serve, caught, opened_on, settled, until
from page.test_collections import FIELDS, MAKE, NOTES, ids

# Without it Chromium tells every page of 10 GiB and more, whatever there is (against fingerprints).
TRUE_ESTIMATE = "--disable-features=StaticStorageQuota"
PUT = "async (all) => notes.put(all).then(({embedded}) => ['put', embedded], ({code, message}) => [code, message])"


@pytest.fixture(scope="module")
def honest(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium_path, args=[*CHROMIUM_ARGS, TRUE_ESTIMATE])
    yield browser
    browser.close()


def test_a_put_that_cannot_fit_is_refused_and_one_that_does_not_is_gone_on_with(
    honest: Browser, serve_site: Serve, name: str
) -> None:
    served = serve_site()
    with watched(honest) as page:
        opened_on(page, served)
        settled(page)
        tools = page.context.new_cdp_session(page)

        def allow(room: int | None) -> None:
            used = page.evaluate("async () => (await navigator.storage.estimate()).usage")
            quota: dict[str, Any] = {} if room is None else {"quotaSize": used + room}
            tools.send("Storage.overrideQuotaForOrigin", {"origin": served.address.rstrip("/"), **quota})

        def batches() -> int:
            return int(page.evaluate("async () => (await insitu.stats()).runs.batches"))

        # Counted is the least that it takes, its texts: known before the first of them is embedded.
        # Set before IndexedDB is used: the browser remembers for half a minute how much it had left.
        allow(400_000)
        page.evaluate(MAKE, [name, {"fields": FIELDS}, NOTES])
        before = batches()
        code, message = page.evaluate(PUT, [{"id": f"long {i}", "text": "much " * 10_000} for i in range(10)])
        assert (code, batches()) == ("disk-full", before) and "there is room for" in message, (code, message)
        assert page.evaluate("async () => (await notes.stats()).documents") == len(NOTES)

        # 25 kB of text, which become a megabyte: some commits are made, then there is no room.
        many = [{"id": f"note {i}", "text": f"It is {i} o'clock."} for i in range(1500)]
        code, message = page.evaluate(PUT, many)
        assert code == "disk-full", (code, message)
        stored = page.evaluate("async () => (await notes.stats()).documents") - len(NOTES)
        assert 0 < stored < len(many) and stored % 128 == 0
        assert ids(page, "spare tube", k=1) == ["tyre"]
        opened_on(page, served)
        page.evaluate(MAKE, [name, {}, None])
        assert page.evaluate("async () => (await notes.stats()).documents") == stored + len(NOTES)
        assert caught(page, "notes.put([{id: 'x', text: 'much '.repeat(90000)}])")[1] == "disk-full"

        # With room again, the put goes on where it ended.
        allow(None)
        assert page.evaluate(PUT, many) == ["put", len(many) - stored]
        assert page.evaluate("async () => (await notes.stats()).documents") == len(many) + len(NOTES)


def test_the_browser_is_asked_to_keep_the_data_when_there_is_something_to_lose(faulty: Page, serve_site: Serve) -> None:
    served = serve_site()
    faulty.add_init_script(
        "const asks = StorageManager.prototype.persist; window.asked = 0;"
        "StorageManager.prototype.persist = function () { asked++; return asks.call(this); };"
    )
    opened_on(faulty, served)
    faulty.evaluate(MAKE, ["kept", {}, None])
    assert faulty.evaluate("asked") == 0  # nobody is bothered for an empty collection
    for note in NOTES[:2]:
        faulty.evaluate("(note) => notes.put([note])", {"id": note["id"], "text": note["text"]})
    assert faulty.evaluate("asked") == 1
    assert faulty.evaluate("async () => (await notes.stats()).persisted") is False
    tools = faulty.context.new_cdp_session(faulty)
    context = tools.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
    allowed = {"permission": {"name": "persistent-storage"}, "setting": "granted", "browserContextId": context}
    tools.send("Browser.setPermission", {**allowed, "origin": served.address.rstrip("/")})
    until(faulty, "(await notes.stats()).persisted", 5000)
