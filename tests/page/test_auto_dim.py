"""`dim: "auto"` in the page: the rule of `test_auto_dim.py` with what the page measures, which is kept."""

from __future__ import annotations

import struct
from typing import Any

from playwright.sync_api import Browser, Page

from conftest import watched
from page.conftest import Serve, opened_on

MEASURED = """async () => {
    const cache = await caches.open('insitu-files');
    const found = (await cache.keys()).filter(({ url }) => new URL(url).pathname.includes('/device/scan-'));
    const bytes = await Promise.all(found.map(async (key) => (await cache.match(key)).arrayBuffer()));
    return [bytes.map((one) => [...new Uint8Array(one)]), navigator.deviceMemory * 2 ** 30];
}"""
AUTO = """async () => {
    const [vector] = await insitu.embed(['a cat'], { dim: 'auto' });
    const embedded = (await insitu.stats()).auto;
    const notes = await insitu.collection('auto', { dim: 'auto' });
    const { dim, auto } = await notes.stats();
    return { embedded, length: vector.length, dim, auto, chosen: (await insitu.stats()).auto };
}"""


def measured(page: Page) -> tuple[float, float]:
    kept, memory = page.evaluate(MEASURED)
    assert len(kept) == 1, "one measurement is kept"
    return struct.unpack("<d", bytes(kept[0]))[0], memory


def test_the_page_measures_once_and_a_collection_keeps_its_size(
    browser: Browser, serve_site: Serve, model_url: str, runtime: Any
) -> None:
    served = serve_site()
    with watched(browser, origins=(served.address,)) as page:
        opened_on(page, served, model=model_url)
        assert page.evaluate("insitu.stats()")["auto"] is None
        found = page.evaluate(AUTO)
        device = measured(page)
        assert 1e4 < device[0] < 1e9, "bytes in a millisecond: 0.01 to 1,000 GB/s"
        dim, reason = runtime.lock.choose_dim(device, None)
        assert found["embedded"] == {"dim": dim, "reason": reason} and found["length"] == dim
        assert found["chosen"] == {"dim": found["dim"], "reason": found["auto"]} and found["auto"]
        opened_on(page, served, model=model_url)
        again = page.evaluate(AUTO)
        assert measured(page) == device
        assert (again["dim"], again["auto"]) == (found["dim"], "")


def test_auto_is_the_size_of_the_open_index(opened: Page) -> None:
    act = "async () => (await insitu.embed(['a'], { dim: 'auto' })).dim"
    assert opened.evaluate(act) == 128
