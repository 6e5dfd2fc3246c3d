"""What a stranger gets: the two wheels in an empty environment, outside the checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from conftest import MODELS, ROOT, built, serving
from test_readme import PAGES, page_of


def code(source: bytes) -> str:
    """What Python makes of a source, without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest
    return ast.dump(tree)


def test_the_wheel_holds_the_code_of_the_repository_line_for_line(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for path in (ROOT / "py/insitu").rglob("*.py"):
            packed, source = archive.read(path.relative_to(ROOT / "py").as_posix()), path.read_bytes()
            assert code(packed) == code(source) and packed.count(b"\n") == source.count(b"\n"), path
        assert archive.testzip() is None


@dataclass(frozen=True)
class Stranger:
    """An environment with the two wheels and nothing of ours; `home` is all that it may write to."""

    home: Path
    insitu: Path

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.insitu), *words],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_", "INSITU"))
        }
        return kept | {"HOME": str(self.home), "INSITU_MODELS": str(self.home / "models"), "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")  # one of its tests runs with those of the browser, the other does not
def stranger(tmp_path_factory: pytest.TempPathFactory, wheel: Path, web_wheel: Path) -> Stranger:
    home = tmp_path_factory.mktemp("stranger")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    python = home / "venv/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    install = [*pip, "install", "--quiet", f"{wheel}[web]", str(web_wheel)]
    done = subprocess.run(install, cwd=home, capture_output=True, text=True, env=Stranger(home, python).environment())
    assert done.returncode == 0, done.stderr
    (home / "site").mkdir()
    for name, body in PAGES.items():
        (home / "site" / name).write_text(page_of(body))
    return Stranger(home, home / "venv/bin/insitu")


@pytest.mark.slow
@pytest.mark.browser
def test_a_stranger_installs_indexes_searches_and_asks_in_the_page(stranger: Stranger, page: Page) -> None:
    where = f"{stranger.insitu.parent}/python -c 'import insitu.errors; print(insitu.errors.__file__)'"
    done = subprocess.run(
        where, shell=True, cwd=stranger.home, env=stranger.environment(), capture_output=True, text=True
    )
    assert str(stranger.home) in done.stdout  # of the wheel, not of the checkout
    # The files are those that `build.py setup` fetched, so that a test run loads them once.
    sources = built(MODELS / "sources/minilm-l6")
    stranger.run("models", "fetch", "minilm-l6", "--from", str(sources))
    stranger.run("models", "export", "minilm-l6", "--variant", "int8")
    stranger.run("index", "site")
    found = json.loads(stranger.run("search", "site", "can I send a thing back?", "--json", "-k", "2").stdout)
    assert found[0]["url"] == "shop.html#returns"
    assert set(found[0]) >= {"url", "title", "heading", "text", "score"}
    with serving(stranger.home / "site", stranger.insitu, stranger.home) as address:
        page.goto(address + "insitu/search.html")
        page.get_by_role("searchbox").fill("can I send a thing back?")
        first = page.get_by_role("link", name=re.compile("Returns")).first
        expect(first).to_be_visible(timeout=60_000)
        first.click()
        expect(page).to_have_url(address + "shop.html#returns")


@pytest.mark.slow
def test_a_stranger_without_a_model_or_an_index_is_told_what_to_do(stranger: Stranger) -> None:
    done = stranger.run("search", "nowhere", "a question", check=False)
    assert done.returncode == 1
    assert "index-not-found" in done.stderr and "Traceback" not in done.stderr


def test_the_wheel_is_pure_small_and_carries_its_manifests(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 150_000
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert "insitu/manifests/minilm-l6/model.json" in names
    outside = [name for name in names if not name.startswith(("insitu/", "insitu-0"))]
    assert outside == []
    assert [name for name in names if re.search(r"fit_|README|__pycache__|test", name)] == []
    # micropip installs it with no dependency: every one is for CPython, or of an extra.
    for requirement in re.findall(r"^Requires-Dist: (.*)$", metadata, re.M):
        assert "sys_platform != 'emscripten'" in requirement or "extra == " in requirement


def test_the_web_wheel_carries_its_files_and_the_licences_of_all_parts(web_wheel: Path) -> None:
    with zipfile.ZipFile(web_wheel) as archive:
        names = archive.namelist()
    files = [name for name in names if name.startswith("insitu_web/files/")]
    for wanted in ("insitu.js", "worker.js", "search.html", "pyodide.asm.wasm", "ort-wasm-simd-threaded.wasm"):
        assert any(name.endswith("/" + wanted) for name in files), wanted
    assert any(name.endswith(".d.ts") for name in files)
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert {"Apache-2.0.txt", "MPL-2.0.txt", "onnxruntime-MIT.txt", "CPython-PSF-2.0.txt", "idb-ISC.txt"} <= licences


def test_the_types_of_the_page_stand_alone(web_dist: Path, tmp_path: Path) -> None:
    """What a TypeScript user of the built files has: no source of ours, every name known."""
    (tmp_path / "use.mts").write_text(
        f"""import {{ open, type Collection, type CollectionHit, type Where }} from "{web_dist.as_posix()}/insitu.js";
const insitu = await open();
const notes: Collection = await insitu.collection("notes", {{ fields: {{ tag: "keyword" }} }});
const where: Where = {{ tag: "home", date: {{ gte: 1 }}, }};
const hits: CollectionHit[] = await notes.search("a", {{ k: 1, where }});
// @ts-expect-error a document has an id
await notes.put([{{ text: hits[0]!.text }}]);
export const file: Blob = await notes.export({{ passphrase: "a" }});
await insitu.import("notes", file);
"""
    )
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"]
    tsc = [str(built(ROOT / "node_modules/.bin/tsc")), *options, str(tmp_path / "use.mts")]
    done = subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
