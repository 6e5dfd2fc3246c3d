"""Python in a Pyodide of the user's own, in the page and in a worker: the code of docs/python.md, and its errors."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import insitu
from conftest import ROOT, VERSION
from insitu.embedder import Embedder
from page.conftest import Serve, wait
from page.folder import Served
from page.texts import PAGES

GUIDE = (ROOT / "docs/python.md").read_text("utf-8")
CODE, PRINTS = re.findall(r"^```py\n(.*?)^```$\n\nprints\n\n```text\n(.*?)^```$", GUIDE, re.M | re.S)[0]
WHEEL = f"insitu-{VERSION}-py3-none-any.whl"
TEXTS = ["", "a cat", "Where did I park the car?", "naïve café — 東京", "word " * 400, *list(PAGES.values())[:3]]
PLACES = ["start", "startWorker"]

Run = Callable[[str], str]


@pytest.fixture
def served(serve_site: Serve, lite: Path) -> Served:
    served = serve_site()
    for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"):
        served.instead[f"/notebook/{name}"] = (ROOT / "node_modules/pyodide" / name).read_bytes()
    served.instead["/notebook.js"] = (ROOT / "tests/page/notebook.js").read_bytes()
    return served


def started(page: Page, served: Served, place: str) -> Run:
    """A notebook with micropip; runs code there and gives what it prints."""
    page.set_default_timeout(120_000)
    page.goto(served.address + "empty.html")
    micropip = next(path.name for path in (served.folder / "insitu/wheels").glob("micropip-*"))
    page.evaluate(
        "async ([place, micropip]) => { window.run = await (await import('/notebook.js'))[place]({ micropip }); }",
        [place, f"{served.address}insitu/wheels/{micropip}"],
    )
    return lambda code: str(page.evaluate("(code) => run(code)", code))


def install(served: Served) -> str:
    return f"await micropip.install('{served.address}insitu/wheels/{WHEEL}')\nimport insitu, json\n"


@pytest.mark.parametrize("place", PLACES)
def test_a_collection_in_a_notebook(place: str, page: Page, served: Served, runtime: Any, tmp_path: Path) -> None:
    run = started(page, served, place)
    code = CODE.replace("https://example.org/", served.address)
    assert served.address in code
    assert run(code) == PRINTS
    # The vectors are those of CPython.
    made = run(f"print((await model.embedder.embed({TEXTS!r})).block.vectors().hex())")
    native = wait(Embedder(runtime, runtime.lock).embed(TEXTS)).block.vectors()
    assert min(cosines(bytes.fromhex(made), native, len(TEXTS))) >= 0.999
    assert [path for path in served.asked if "/ort/" in path] == []  # by the encoder, as in our own worker
    # So is the file.
    file = tmp_path / "notes.insitu"
    file.write_bytes(bytes.fromhex(run("print((await notes.export()).hex())")))

    async def in_cpython() -> list[str]:
        notes = await insitu.open_collection(tmp_path / "notes")
        assert await notes.import_(file.read_bytes()) == 2
        return [hit.id for hit in await notes.search("where did I park")]

    assert wait(in_cpython())[0] == "car"
    # Opened again: in the same interpreter, and after a reload.
    again = """notes = await insitu.open_collection('notes')
print(json.dumps([(await notes.stats())['documents'], (await notes.search('where did I park'))[0].id]))"""
    assert json.loads(run("notes.close()\nimport json\n" + again)) == [2, "car"]
    if place == "start":
        # The page's own face has it too.
        assert page.evaluate(SEARCH_IN_PAGE) == "car"
        return
    run = started(page, served, place)
    run(install(served) + "insitu.configure(assets='/insitu')")
    assert json.loads(run(again)) == [2, "car"]
    # An index, and without `await`, where the browser can wait.
    assert (
        run("print((await insitu.open_index('/insitu/index.json')).search('cats', k=1)[0].title)") == "Keeping cats\n"
    )


SEARCH_IN_PAGE = """async () => {
    const opened = await (await import('/insitu/insitu.js')).open();
    const [hit] = await (await opened.collection('notes')).search('where did I park');
    opened.close();
    return hit.id;
}"""


def cosines(left: bytes, right: bytes, count: int) -> list[float]:
    a, b = array("f", left), array("f", right)
    dim = len(a) // count
    assert len(a) == len(b) == count * dim
    return [math.fsum(a[i] * b[i] for i in range(row * dim, row * dim + dim)) for row in range(count)]


def test_a_place_without_the_files_is_named(faulty: Page, served: Served) -> None:
    served.instead["/page/notebook.js"] = b"<!doctype html>"
    served.instead["/old/notebook.js"] = b"export const version = '0.0.1';"
    served.instead["/insitu/models/page/model.lock.json"] = b"<!doctype html>"
    run = started(faulty, served, "start")
    opening = "await insitu.open_collection('notes')"
    said = run(install(served) + opening)
    assert said.startswith("RuntimeUnavailable runtime-unavailable: Say first where") and "configure(assets" in said
    for folder in ("nowhere", "page"):
        said = run(f"insitu.configure(assets='/{folder}')\n{opening}")
        assert said.startswith(f"RuntimeUnavailable runtime-unavailable: {served.address}{folder}/notebook.js cannot")
    said = run(f"insitu.configure(assets='/old')\n{opening}")
    assert "0.0.1" in said and VERSION in said and said.startswith("RuntimeUnavailable")
    said = run("insitu.configure(assets='/insitu')\nawait insitu.open_model('no-such')")
    assert said.startswith("FetchFailed fetch-failed: ") and "/insitu/models/no-such-int8/model.lock.json" in said
    assert run("await insitu.open_model('/insitu/models/page')").startswith("ModelCorrupt model-corrupt: ")
    # What failed once is tried again.
    served.missing.add("/insitu/models/minilm-l6-int8/model.lock.json")
    assert run(opening).startswith("FetchFailed fetch-failed: ")
    served.missing.clear()
    assert run(f"print(type({opening}).__name__)") == "OpenedCollection\n"
