"""PyScript, as docs/notebooks.md has it: its page, its configuration and its program, in a worker and in the page."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from conftest import ROOT
from page.conftest import Serve

GUIDE = (ROOT / "docs/notebooks.md").read_text("utf-8").partition("\n## PyScript\n")[2]
PAGE, CONFIG, PROGRAM = re.findall(r"^```(?:html|toml|py)\n(.*?)^```$", GUIDE, re.M | re.S)[:3]
CORE = ROOT / "node_modules/@pyscript/core/dist"
PYODIDE = ROOT / "node_modules/pyodide"
WHERE = """
from pyscript import RUNNING_IN_WORKER
print("in the", "worker" if RUNNING_IN_WORKER else "page")
"""


@pytest.mark.parametrize("place", ["worker", "page"])
def test_a_collection_in_pyscript(page: Page, serve_site: Serve, lite: Path, place: str) -> None:
    if not CORE.is_dir():
        pytest.skip(f"{CORE} is not there: npm ci")
    served = serve_site()
    served.instead |= {f"/pyscript/{path.name}": path.read_bytes() for path in CORE.glob("*.*")}
    for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip"):
        served.instead[f"/pyodide/{name}"] = (PYODIDE / name).read_bytes()
    (micropip,) = (lite / "insitu/wheels").glob("micropip-*")
    served.instead["/pyodide/pyodide-lock.json"] = lock(micropip)
    served.instead[f"/pyodide/{micropip.name}"] = micropip.read_bytes()
    program = (PROGRAM + WHERE).replace("https://example.org/", served.address)
    program = program.replace('"notes", ', '"notes", threads=2, ')
    here = 'interpreter = "/pyodide/pyodide.mjs"\n' + CONFIG
    served.instead["/pyscript.toml"] = here.replace("https://example.org/", served.address).encode()
    served.instead["/main.py"] = program.encode()
    html = (PAGE if place == "worker" else PAGE.replace(" worker", "")) + "<link rel=icon href=data:,>"
    served.instead["/notebook.html"] = html.encode()
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text) if message.type == "log" else None)
    with page.expect_console_message(lambda message: message.text == f"in the {place}"):
        page.goto(served.address + "notebook.html")
    assert "car" in printed
    assert [path for path in served.asked if "/ort/" in path] == []  # by the encoder, as in our own worker
    # A page may not wait for helpers; a worker may, though PyScript lends it the page's `document`.
    assert ("/insitu/encoder_thread.js" in served.asked) == (place == "worker")


def lock(micropip: Path) -> bytes:
    """The lock of the npm package, which has Pyodide's own build of this wheel, for the one of PyPI."""
    found = json.loads((PYODIDE / "pyodide-lock.json").read_text("utf-8"))
    found["packages"] = {
        "micropip": found["packages"]["micropip"]
        | {"file_name": micropip.name, "sha256": hashlib.sha256(micropip.read_bytes()).hexdigest()}
    }
    return json.dumps(found).encode()
