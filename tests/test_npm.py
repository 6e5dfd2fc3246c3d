"""The npm package in a project of a stranger's, outside the checkout, by the steps of docs/javascript.md."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from conftest import ROOT, VERSION, built, watched
from page.folder import Served

GUIDE = (ROOT / "docs/javascript.md").read_text("utf-8").partition("## With npm and a bundler")[2].partition("\n## ")[0]
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", GUIDE, re.M | re.S))
STEPS = [line for block in re.findall(r"^```shell\n(.*?)^```$", GUIDE, re.M | re.S) for line in block.splitlines()]
ANSWER = "128 I left the blue car behind the town hall."


@pytest.fixture(scope="session")
def tarball() -> Path:
    return built(ROOT / f"dist/insitu-{VERSION}.tgz")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tarball: Path, model_dir: Path) -> Path:
    """An empty project with Vite, after the steps of the documentation up to the build."""
    assert model_dir.is_dir()
    folder = tmp_path_factory.mktemp("npm") / "notes"
    folder.mkdir()
    shutil.copy(tarball, folder.parent)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "tests/npm" / name, folder)
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")
    for step in STEPS:
        if step.startswith("npm install --save-dev"):
            step = "npm ci"  # the same package, of the version in the lock file
        if step != "npx vite dev":
            run(step, folder)
    return folder


def run(step: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # What a package would run while it is installed is not wanted, here as in build.py.
    quiet = {"npm_config_ignore_scripts": "true", "npm_config_audit": "false", "npm_config_fund": "false"}
    done = subprocess.run(
        ["bash", "-c", step],
        cwd=folder,
        env=os.environ | quiet | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_tarball_carries_module_types_licences_and_all_that_the_page_loads(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        files = {member.name.removeprefix("package/"): member.size for member in archive}
        page = archive.extractfile("package/addresses.js")
        assert page is not None
        named = re.findall(r'new URL\("\./files/(.*?)\?no-inline"', page.read().decode())
    assert {"index.js", "vite.js", "files/insitu.d.ts", "files/types/index.d.ts", "LICENSE", "NOTICE"} <= set(files)
    assert {"files/licences/MPL-2.0.txt", "files/licences/onnxruntime-MIT.txt"} <= set(files)
    assert all(f"files/{name}" in files for name in named)
    assert {"worker.js", "pyodide/python.zip", "ort/ort-wasm-simd-threaded.wasm", "encoder.plain.wasm"} <= set(named)
    assert [name for name in files if "search." in name or "node_modules" in name] == []
    assert tarball.stat().st_size < 16e6


@pytest.mark.slow
@pytest.mark.browser
def test_vite_builds_a_project_that_runs_without_another_origin(project: Path, browser: Browser) -> None:
    with Served(project / "dist").running() as served, watched(
        browser, silent=True, origins=(served.address,)
    ) as page:  # fmt: skip
        page.goto(served.address)
        page.wait_for_function("document.title != 'Notes'")
        assert page.title() == ANSWER
        assert page.evaluate("crossOriginIsolated") is True
    # Each under the name that the build gave it, none inside a script.
    scripts = [path for path in served.asked if path.startswith("/assets/")]
    assert all(re.fullmatch(r"/assets/[\w.-]+-[\w-]{8}\.\w+", path) for path in scripts)
    assert any(path.startswith("/assets/worker-") for path in scripts)


@pytest.mark.slow
@pytest.mark.browser
def test_the_project_runs_while_it_is_developed(project: Path, browser: Browser) -> None:
    assert "npx vite dev" in STEPS
    with developing(project) as address, watched(browser, origins=(address,)) as page:
        page.goto(address)
        page.wait_for_function("document.title != 'Notes'")
        assert page.title() == ANSWER


def test_the_code_of_the_documentation_has_the_types_that_are_shipped(project: Path) -> None:
    options = "--noEmit --strict --module esnext --moduleResolution bundler --target es2022 --lib es2022,dom"
    tsc = [str(built(ROOT / "node_modules/.bin/tsc")), *options.split()]
    done = subprocess.run([*tsc, "main.ts"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (project / "wrong.ts").write_text('import { open } from "insitu";\nopen({ modell: "/model" });\n')
    assert "modell" in subprocess.run([*tsc, "wrong.ts"], cwd=project, capture_output=True, text=True).stdout


@contextmanager
def developing(project: Path) -> Iterator[str]:
    """`npx vite dev` on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Vite itself and not npx: a process of npx's own would be left behind.
    vite = ["node", "node_modules/vite/bin/vite.js", "dev", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(vite, cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()
