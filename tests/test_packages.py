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
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import insitu
import slim
from conftest import MODELS, ROOT, built, serving
from test_readme import PAGES, page_of


class Bare(ast.NodeTransformer):
    """What no interpreter needs of an inner module: annotations outside the bodies of classes, and docstrings."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [line if isinstance(line, ast.AnnAssign) else self.visit(line) for line in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return node if node.value is None else ast.Assign([node.target], node.value)


def code(source: bytes, *, bare: bool) -> str:
    """What Python makes of a source without its docstrings; of a bare one also without annotations and imports."""
    tree = Bare().visit(ast.parse(source)) if bare else ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest
        if isinstance(node, ast.Module) and bare:
            node.body = [line for line in node.body if not isinstance(line, ast.Import | ast.ImportFrom)]
            node.body = [line for line in node.body if "id='TYPE_CHECKING'" not in ast.dump(line)]
    return ast.dump(tree)


def test_the_wheel_holds_the_code_of_the_repository_line_for_line(wheel: Path) -> None:
    public = [ROOT / "py" / name for name in slim.PUBLIC]
    assert all(path.exists() for path in public)
    with zipfile.ZipFile(wheel) as archive:
        for path in (ROOT / "py/insitu").rglob("*.py"):
            packed, source = archive.read(path.relative_to(ROOT / "py").as_posix()), path.read_bytes()
            bare = not any(path.is_relative_to(place) for place in public)
            assert code(packed, bare=bare) == code(source, bare=bare), path
            assert packed.count(b"\n") == source.count(b"\n"), path
        assert archive.testzip() is None


def test_what_users_call_keeps_its_docstrings_in_the_wheel() -> None:
    homes = {*insitu._HOMES.values(), "insitu.notebook"}
    assert not [home for home in homes if not f"{home.replace('.', '/')}.py".startswith(slim.PUBLIC)]


def test_every_name_in_the_wheel_is_known_and_every_module_loads(wheel: Path, tmp_path: Path) -> None:
    """Imports that only annotations used are left out of it: none may be missing where code runs."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F822,F823", str(tmp_path)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [".".join(path.relative_to(tmp_path).with_suffix("").parts) for path in tmp_path.glob("insitu/**/*.py")]
    # One runs the command line, the others stand on Pyodide's modules.
    left = {"insitu.__main__", "insitu.runtime.web", "insitu.bridge", "insitu.notebook"}
    load = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfor name in {sorted(set(names) - left)}: __import__(name)"
    )
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ODD = '''"""A module."""
from __future__ import annotations
import io, os  # both
from collections.abc import (
    Iterator,
    Sequence,
)
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from json import JSONDecoder
class A:
    """Only this."""
def é(ä: Sequence[str], *, b: "tuple[int, str]" = (1, ")"), **c: (int)) -> (
    tuple[Sequence[str], int]
):
    """Words."""
    d: dict[str, int] = {"->": 1}; e: int
    e: int = len(ä)
    return list(ä), e + d["->"] + b[0]
def g(
    a: Sequence[
        int
    ],
    b: JSONDecoder | io.StringIO | None = None) -> int: return len(a)
h: Iterator[int] = iter([os.getpid()])
'''


def test_a_slimmed_source_keeps_its_lines_and_does_what_it_did() -> None:
    thin = slim.slim(ODD.encode(), public=False).decode()
    assert thin.count("\n") == ODD.count("\n")
    assert not re.search(r"Words|Only|both|JSONDecoder|Iterator|if TYPE_CHECKING|io\b", thin)
    for source in (ODD, thin):
        space: dict[str, Any] = {}
        exec(source, space)  # nothing but the lines above
        assert space["é"](["x"], b=(2, "")) == (["x"], 4) and space["g"]([1, 2]) == 2
        assert next(space["h"]) == os.getpid()


def test_a_slimmed_dataclass_keeps_its_fields() -> None:
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom fractions import Fraction\n"
    source += (
        "@dataclass\nclass A:\n    part: Fraction\n    name: str = 'b'\n    def of(self, x: int) -> int: return x\n"
    )
    space: dict[str, Any] = {}
    exec(slim.slim(source.encode(), public=False), space)
    assert repr(space["A"](1)) == "A(part=1, name='b')" and space["A"](1).of(2) == 2
    assert "x: int" not in slim.slim(source.encode(), public=False).decode()
    assert "x: int" in slim.slim(source.encode(), public=True).decode()


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
