"""A small site, indexed and served with the built web files, and a page on it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect

from conftest import CHROMIUM_ARGS, ROOT, VERSION, watched
from page.folder import Served
from page.texts import PAGES

T = TypeVar("T")
# Opening takes seconds, more on a busy machine.
expect.set_options(timeout=60_000)

Serve = Callable[..., Served]


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; in a thread of its own, as Playwright has the event loop of this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def runtime(model_dir: Path) -> Any:
    from insitu.runtime.native import NativeRuntime

    return NativeRuntime.open(model_dir, threads=1)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, runtime: Any, model_dir: Path, web_dist: Path) -> Path:
    """A site of twelve pages with its index, the model and the web files in `insitu/`."""
    from insitu.site import build_index

    folder = tmp_path_factory.mktemp("site")
    for name, html in PAGES.items():
        (folder / name).write_text(html, "utf-8")
    report = wait(build_index(folder, folder / "insitu", runtime, runtime.lock, model_dir=model_dir))
    assert report.pages == len(PAGES)
    shutil.copytree(os.environ.get("INSITU_WEB_DIST") or web_dist, folder / "insitu", dirs_exist_ok=True)
    bundle("parts.ts", folder / "parts.js")
    return folder


@pytest.fixture(scope="session")
def lite(site: Path, model_dir: Path) -> Path:
    """The site, with an exported model where `configure` looks for it."""
    shutil.copytree(model_dir, site / "insitu/models/minilm-l6-int8")
    return site


def bundle(name: str, out: Path, *more: str) -> None:
    """A file of this folder with all that it imports, as one script; `more`: options of esbuild."""
    options = ["--bundle", "--format=esm", f"--outfile={out}", "--log-level=error", *more]
    subprocess.run([ROOT / "node_modules/.bin/esbuild", ROOT / "tests/page" / name, *options], check=True)


def worker(out: Path) -> str:
    """The page's worker as one script, to which a test adds what tells of its inside."""
    bundle(
        "../../web/src/worker.ts", out, f'--define:VERSION="{VERSION}"', "--conditions=onnxruntime-web-use-extern-wasm"
    )
    return out.read_text("utf-8")


# After a script of the worker that was bundled: tells on a channel when clusters are asked.
TELL_CLUSTERS = """
{
    const asked = Clusters.prototype.search;
    const channel = new BroadcastChannel("clusters");
    Clusters.prototype.search = function (...all) { channel.postMessage(this.count); return asked.apply(this, all); };
}
"""


@contextmanager
def on_disk(playwright: Playwright, chromium_path: str, profile: Path) -> Iterator[Browser]:
    """A browser whose profile lies on the disk, and which, unlike Playwright's own of this kind, tells of its processes."""
    port = profile / "DevToolsActivePort"
    port.unlink(missing_ok=True)  # of a browser before
    options = [*CHROMIUM_ARGS, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen([chromium_path, *options, "about:blank"], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                if port.exists() and port.read_text():
                    break
                time.sleep(0.1)
            browser = playwright.chromium.connect_over_cdp(f"http://127.0.0.1:{port.read_text().split()[0]}")
            yield browser
            browser.close()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def disk(playwright: Playwright, chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser of its own, with its profile on the disk, whose processes may be killed."""
    with on_disk(playwright, chromium_path, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="session")
def start_parts(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The script of `start_parts.ts`."""
    out = tmp_path_factory.mktemp("parts") / "parts.js"
    bundle("start_parts.ts", out)
    return out.read_bytes()


@pytest.fixture(scope="session")
def model_url(site: Path) -> str:
    """The path of the model's lock on the site."""
    return "/insitu/" + str(json.loads((site / "insitu/index.json").read_text())["model"])


@pytest.fixture
def serve_site(site: Path) -> Iterator[Serve]:
    """serve_site(**faults) -> Served, for the length of one test."""
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(Served(site, **faults).running())


@pytest.fixture(scope="session")
def opened(browser: Browser, site: Path) -> Iterator[Page]:
    """One page for all tests that only ask: `open()` was called, `insitu` holds what it gave."""
    with Served(site).running() as served, watched(browser, silent=True, origins=(served.address,)) as page:
        opened_on(page, served)
        yield page


@pytest.fixture(scope="module")
def second(opened: Page) -> Iterator[Page]:
    """Another tab of the same browser, with a worker of its own."""
    page = opened.context.new_page()
    page.set_default_timeout(120_000)
    page.goto(opened.url)
    page.evaluate(OPEN)
    yield page
    page.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for the collection of one test: those that share a page share what it keeps."""
    return f"{request.path.stem} {request.node.name}"


@dataclass(frozen=True)
class Visited:
    """`page`, on which `open()` was called and everything settled; `first` and `settled` are its `stats()` then and
    `answer` its hits for `ASKED`. Its profile has the files and a snapshot of Python, which save half of a start."""

    page: Page
    served: Served
    first: dict[str, Any]
    settled: dict[str, Any]
    answer: list[dict[str, Any]]


ASKED = "insitu.search('how do I keep a cat warm')"


@pytest.fixture(scope="session")
def visited_once(browser: Browser, site: Path) -> Iterator[Visited]:
    with Served(site).running() as served, watched(browser) as page:
        first = opened_on(page, served)
        answer = page.evaluate(ASKED)
        settled(page)
        yield Visited(page, served, first, page.evaluate("insitu.stats()"), answer)


@pytest.fixture
def visited(visited_once: Visited) -> Visited:
    """A page for tests that visit it again. They leave files and snapshot whole; what they ask of `served` ends here."""
    served = visited_once.served
    served.asked.clear()
    served.instead.clear()
    return visited_once


@pytest.fixture
def faulty(browser: Browser) -> Iterator[Page]:
    """A page in a fresh profile that may write to its console: a file that is missing, or an answer that breaks, does."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield page
    context.close()


OPEN = """async (options) => {
    window.loading = [];
    window.insitu = await (await import('/insitu/insitu.js')).open({...options, onProgress: (l) => loading.push(l)});
}"""


def opened_on(page: Page, served: Served, **options: Any) -> dict[str, Any]:
    """`open(options)` on a page of `served`, whose `insitu` it then is; its `stats()`."""
    page.goto(served.address + "empty.html")
    page.evaluate(OPEN, options)
    stats: dict[str, Any] = page.evaluate("insitu.stats()")
    return stats


def settled(page: Page) -> None:
    """All that goes on after `open()` is done."""
    page.evaluate(
        "async () => { while (!(await insitu.stats()).settled) await new Promise((done) => setTimeout(done, 50)); }"
    )


def answers(page: Page) -> bool:
    return bool(page.evaluate("async () => (await insitu.search('cats'))[0].title") == "Keeping cats")


# Playwright's own wait_for_function takes the promise of an async condition for its fulfilment.
UNTIL = """async ([condition, timeout]) => {
    const holds = eval(`async () => (${condition})`);
    for (const end = performance.now() + timeout; ; await new Promise((done) => setTimeout(done, 20))) {
        const late = performance.now() > end;
        if (await holds()) return true;
        if (late) return false;
    }
}"""


def until(page: Page, condition: str, timeout: float = 60_000) -> None:
    """Wait until an expression, which may await, is true; what is asked after so many milliseconds is asked last."""
    assert page.evaluate(UNTIL, [condition, timeout]), f"not within {timeout} ms: {condition}"


# Runs `act` on the page; gives what it threw, as [name, code, message].
CAUGHT = """async (act) => {
    try { return ['no error', '', JSON.stringify(await eval(`(async () => (${act}))()`)) ?? '']; }
    catch (error) { return [error.name, error.code, error.message]; }
}"""


def caught(page: Page, act: str) -> tuple[str, str, str]:
    """(name, code, message) of the error that the expression `act` ends with."""
    name, code, message = page.evaluate(CAUGHT, act)
    return name, code, message
