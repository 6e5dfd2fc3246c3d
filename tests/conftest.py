"""What the tests share: the built packages, the model, Chromium, a served folder.

Nothing is built here. A missing part fails the test with the command that makes it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
VERSION = "0.1.0"
MODELS = Path(os.environ.get("INSITU_MODELS") or ROOT / ".build/models").absolute()
os.environ["INSITU_MODELS"] = str(MODELS)
# Its threads wait for each other in a busy loop: beside a browser an export takes three times as long with two.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
PYTHON_DOCS = Path("/usr/share/doc/python3.11/html")
# A test must not depend on a place that answers from outside.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come late: from the first of them on Playwright has the event loop of this thread to itself. Those
    that wait for the index of Python's documentation come last."""

    def late(item: pytest.Item) -> tuple[bool, bool]:
        names = getattr(item, "fixturenames", ())
        # Those of tests/page may ask for the browser by name, which no list of fixtures tells.
        return "python_docs_index" in names, "playwright" in names or "page" in item.path.parts

    items.sort(key=late)


def built(path: Path) -> Path:
    if not path.exists():
        pytest.fail(f"{path} is missing. Make it: python3 build.py setup", pytrace=False)
    return path


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The wheel `insitu`."""
    return built(ROOT / f"dist/insitu-{VERSION}-py3-none-any.whl")


@pytest.fixture(scope="session")
def web_wheel() -> Path:
    """The wheel `insitu-web`."""
    return built(ROOT / f"dist/insitu_web-{VERSION}-py3-none-any.whl")


@pytest.fixture(scope="session")
def web_dist() -> Path:
    """The folder with the built web files."""
    return built(ROOT / "web/dist")


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The exported default model."""
    return built(MODELS / "minilm-l6-int8/model.lock.json").parent


@pytest.fixture(scope="session")
def gemma_json() -> Path:
    """EmbeddingGemma's tokenizer.json, as published."""
    path = ROOT / ".build/gemma-tokenizer.json"
    if not path.exists():
        pytest.fail(f"{path} is missing. Make it: python3 build.py test", pytrace=False)
    return path


@pytest.fixture(scope="session")
def gemma_exported(gemma_json: Path) -> dict[str, Any]:
    """EmbeddingGemma's tokenizer.json as the export writes it."""
    data: dict[str, Any] = json.loads(gemma_json.read_text("utf-8"))
    assert data["added_tokens"].pop()["content"] == "<image_soft_token>"  # which has no row
    return data


@pytest.fixture(scope="session")
def gemma_vocabulary(gemma_exported: dict[str, Any]) -> bytes:
    """Its vocabulary.bin."""
    from insitu.model.vocabulary import pack_vocabulary

    return pack_vocabulary(gemma_exported)


@pytest.fixture(scope="session")
def python_docs() -> Path:
    """Python's documentation as HTML, about 500 pages, from the Debian package."""
    if not PYTHON_DOCS.is_dir():
        pytest.skip(f"{PYTHON_DOCS} is not there (Debian: apt-get install python3.11-doc)")
    return PYTHON_DOCS


@pytest.fixture(scope="session", autouse=True)
def indexing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexing | None]:
    """The index of Python's documentation, begun before the first test if one of them wants it."""
    wanted = any("python_docs_index" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if not (wanted and PYTHON_DOCS.is_dir() and (MODELS / "minilm-l6-int8/model.lock.json").exists()):
        yield None
        return
    indexing = Indexing(ROOT / ".build/python-docs-index", tmp_path_factory.mktemp("indexing") / "log")
    yield indexing
    indexing.end()


@pytest.fixture(scope="session")
def python_docs_index(python_docs: Path, model_dir: Path, web_dist: Path, indexing: Indexing) -> Path:
    """The index of Python's documentation, brought up to date; it stays in .build, so only the first run takes long."""
    assert python_docs and model_dir and web_dist
    return indexing.wait()


class Indexing:
    """`insitu index` in a process of its own. It takes minutes, in which the browser's tests leave a processor idle."""

    def __init__(self, out: Path, log: Path) -> None:
        self.out, self.log = out, log
        polite = ["nice"] if shutil.which("nice") else []  # the tests come first
        command = [*polite, sys.executable, "-m", "insitu", "index", str(PYTHON_DOCS), "--out", str(out)]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)

    def wait(self) -> Path:
        if self.process.wait() != 0:
            pytest.fail(
                f"insitu index ended with {self.process.returncode}: {self.log.read_text()[-2000:]}", pytrace=False
            )
        return self.out

    def end(self) -> None:
        """Where the tests ended early."""
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    note = ROOT / ".build/chromium"
    names = [os.environ.get("INSITU_CHROMIUM"), note.read_text().strip() if note.exists() else None]
    names += [shutil.which(name) for name in ("chromium", "google-chrome")]
    found = next((name for name in names if name and Path(name).is_file()), None)
    if found is None:
        pytest.fail("There is no Chromium. Install one: python3 build.py setup", pytrace=False)
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright, chromium_path: str) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_ARGS)
    yield browser
    browser.close()


@contextmanager
def watched(
    browser: Browser, *, silent: bool = False, origins: tuple[str, ...] = ("http://127.0.0.1:", "http://localhost:")
) -> Iterator[Page]:
    """A page in a fresh profile. A console error (`silent`: any message), an uncaught error, or a request to another
    origin fails the test."""
    context = browser.new_context()
    wrong: list[str] = []

    def foreign(url: str) -> None:
        if not url.startswith((*origins, "blob:", "data:", "about:")):
            wrong.append(f"request to another origin: {url}")

    def said(kind: str, text: str) -> None:
        if silent or kind == "error":
            wrong.append(f"console: {text}")

    context.on("request", lambda request: foreign(request.url))
    context.on("console", lambda message: said(message.type, message.text))
    context.on("weberror", lambda error: wrong.append(f"uncaught: {error.error}"))
    page = context.new_page()
    page.set_default_timeout(120_000)  # opening takes seconds, more on a busy machine
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page for one test, watched."""
    with watched(browser) as page:
        yield page


@contextmanager
def serving(folder: Path, insitu: str | Path | None = None, cwd: Path | None = None) -> Iterator[str]:
    """`insitu serve FOLDER` on a free port; gives the address, ending with a slash."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = str(insitu or Path(sys.executable).parent / "insitu")
    log = subprocess.Popen(
        [command, "serve", str(folder), "--port", str(port)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except urllib.error.HTTPError:
                break  # it answers
            except OSError:
                if log.poll() is not None:
                    pytest.fail(f"insitu serve ended: {log.stdout.read() if log.stdout else ''}", pytrace=False)
                time.sleep(0.1)
        else:
            pytest.fail(f"insitu serve did not answer at {address} within 15 s", pytrace=False)
        yield address
    finally:
        log.terminate()
        log.communicate(timeout=10)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """serve(folder) -> address, for the length of one test."""
    running = []

    def start(folder: Path) -> str:
        server = serving(folder)
        address = server.__enter__()
        running.append(server)
        return address

    yield start
    for server in running:
        server.__exit__(None, None, None)
