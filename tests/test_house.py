"""Rules of the house that a reader would have to remember, and a test need not."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, VERSION

PACKAGE = ROOT / "py/insitu"
SOURCES = [*PACKAGE.rglob("*.py"), ROOT / "build.py"]
# Imported in the page: these must stand on the standard library alone.
CORE = ("insitu.embedder", "insitu.errors", "insitu.space", "insitu.model.lock", "insitu.runtime", "insitu.text.clean")
CORE_IN_PAGE = (*CORE, "insitu.text.chunk", "insitu.index.format", "insitu.index.search", "insitu.collection.calls")
HEAVY = (
    "numpy",
    "onnx",
    "onnxruntime",
    "tokenizers",
    "typer",
    "rich",
    "selectolax",
    "huggingface_hub",
    "js",
    "pyodide",
)


def imports(path: Path) -> Iterator[str]:
    """Top-level names of all imports of a module, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def importers(*names: str) -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if set(names) & set(imports(path)))


def committed() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_one_module_imports_pyodide() -> None:
    assert importers("js", "pyodide", "pyodide_js") == ["runtime/web.py"]


def test_one_module_imports_onnxruntime() -> None:
    assert importers("onnxruntime") == ["runtime/native.py"]


def test_tokenizers_are_used_behind_the_seam_only() -> None:
    assert importers("tokenizers") == ["runtime/native.py"]


def test_the_store_of_cpython_alone_keeps_collections_on_the_disk() -> None:
    assert importers("sqlite3") == [f"collection/{name}.py" for name in ("folder", "folder_content", "folder_words")]


def test_one_module_of_the_page_touches_indexeddb() -> None:
    scripts = {path.name: path.read_text("utf-8") for path in (ROOT / "web/src").glob("*.ts")}
    touches = re.compile(r"\bindexedDB\b|\bIDB[A-Z]|from \"idb\"")
    assert [name for name, script in sorted(scripts.items()) if touches.search(script)] == ["database.ts"]


def test_nothing_imports_torch() -> None:
    assert importers("torch", "transformers", "sentence_transformers") == []


@pytest.mark.parametrize("module", CORE_IN_PAGE)
def test_what_the_page_imports_stands_on_the_standard_library(module: str) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_every_error_has_a_code_of_its_own() -> None:
    from insitu import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InsituError)]
    codes = [kind.code for kind in kinds]
    assert len(codes) == len(set(codes)) > 10
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


def test_files_stay_one_room() -> None:
    web = [path for path in (ROOT / "web").rglob("*.ts") if not {"dist", "node_modules"} & set(path.parts)]
    long = {
        str(path.relative_to(ROOT)): lines for path in [*SOURCES, *web] if (lines := len(path.open().readlines())) > 450
    }
    # One file by design: it runs before anything is installed, and stands alone at the top.
    assert long.pop("build.py", 0) <= 500
    assert long == {}


def test_committed_files_name_no_registry_and_no_path_of_one_machine() -> None:
    hosts = [re.escape(".".join(name)) for name in (("pypi", "org"), ("registry", "npmjs"), ("deb", "debian", "org"))]
    folders = [re.escape(f"{folder}/") for folder in (ROOT, Path.home()) if folder != Path(folder.anchor)]
    wrong = re.compile("|".join([*hosts, *folders, "file:" + "///"]))
    found = []
    for path in committed():
        if path.suffix in (".png", ".bin", ".onnx"):
            continue
        text = path.read_text("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in wrong.finditer(text)]
    assert found == []


def test_no_large_file_is_committed() -> None:
    large = {str(path.relative_to(ROOT)): size for path in committed() if (size := path.stat().st_size) > 1_000_000}
    assert large == {}


def test_versions_agree() -> None:
    import insitu
    import insitu_web

    def version(name: str) -> str:
        project = tomllib.loads((ROOT / name).read_text("utf-8"))["project"]
        return str(project["version"])

    said = {name: version(name) for name in ("pyproject.toml", "web/pyproject.toml")}
    said["package.json"] = json.loads((ROOT / "package.json").read_text("utf-8"))["version"]
    said["web/npm"] = json.loads((ROOT / "web/npm/package.json").read_text("utf-8"))["version"]
    said["insitu_web"] = insitu_web.__version__
    said["insitu"] = insitu.__version__
    said["CHANGELOG.md"] = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)[0]
    said["build.py"] = re.findall(r'^VERSION = "(.+)"', (ROOT / "build.py").read_text("utf-8"), re.M)[0]
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["web"]
    said["the extra web"] = asked[0].removeprefix("insitu-web==")
    assert set(said.values()) == {VERSION}, said
