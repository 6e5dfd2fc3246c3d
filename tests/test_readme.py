"""The code of README.md and of the documentation runs, and prints what it says that it prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from conftest import ROOT

PAGES = {
    "index.html": "<h1>Our shop</h1><h2 id='hours'>Opening hours</h2><p>Open from Monday to Friday, 9 to 17.</p>",
    "shop.html": "<h1>Buying</h1><h2 id='returns'>Returns</h2><p>Send it back within a month, we refund the price.</p>"
    "<h2 id='shipping'>Shipping</h2><p>Parcels leave our store on the day of the order.</p>",
}


def page_of(body: str) -> str:
    return f"<!doctype html><meta charset=utf-8><title>Shop</title><link rel=icon href='data:,'><body>{body}"


@dataclass(frozen=True)
class Block:
    """A fenced block of `file`; `prints` is the block of text announced by 'prints' right after it."""

    file: str
    line: int
    language: str
    code: str
    prints: str | None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    fence = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n+prints\n+```text\n(.*?)^```$)?", re.M | re.S)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text("utf-8")
        for match in fence.finditer(text):
            if match[1] in languages:
                line = text[: match.start()].count("\n") + 1
                found.append(Block(path.name, line, match[1], match[2], match[3]))
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, web_dist: Path) -> Path:
    """A folder with a small site in `site`, indexed."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "site").mkdir()
    for name, body in PAGES.items():
        (folder / "site" / name).write_text(page_of(body))
    return folder


@pytest.fixture(scope="module")
def indexed(shop: Path) -> Path:
    subprocess.run([command("insitu"), "index", "site"], cwd=shop, check=True)
    return shop


def command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def test_there_are_blocks_of_each_kind() -> None:
    assert len(blocks("python")) >= 3
    assert len(blocks("js")) >= 3
    assert len(blocks("sh")) >= 1


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_blocks_run(block: Block, indexed: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block.code], cwd=indexed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if block.prints is not None:
        assert done.stdout == block.prints


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_commands_run(block: Block, indexed: Path) -> None:
    """Each line of `insitu`. What sets up, fetches or serves is run by tests of its own."""
    ran = 0
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[:2] in (["insitu", "serve"], ["pip", "install"]) or words[0] == "python3":
            continue
        done = subprocess.run(["bash", "-c", line], cwd=indexed, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        ran += 1
    assert ran or "python3 build.py" in block.code or "pip install" in block.code


@pytest.mark.browser
@pytest.mark.parametrize("block", blocks("js"), ids=str)
def test_scripts_run_in_the_page(block: Block, indexed: Path, serve: Callable[[Path], str], page: Page) -> None:
    refused = "./nowhere/" in block.code  # the example of an error: its 404 is printed by the browser
    site = indexed / "site"
    script = "try {\n" + re.sub(r"^import (.*?);$", "", block.code, flags=re.M) + "\ndocument.title = 'ended';"
    script += "\n} catch (error) { document.title = `failed: ${error}`; throw error; }"
    imports = "\n".join(re.findall(r"^import .*?;$", block.code, re.M))
    head = "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'><title>runs</title>"
    html = f"{head}<script type=module>{imports}\n{script}</script>"
    (site / "block.html").write_text(html)
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.text))
    address = serve(site)
    if refused:
        page.route("**/nowhere/*", lambda route: route.fulfill(status=200, content_type="application/json", body="{}"))
    page.goto(address + "block.html")
    page.wait_for_function("document.title != 'runs'")
    assert page.title() == "ended"
    expected = re.findall(r"console\.log\(.*\); // (.*)$", block.code, re.M)
    for text in expected:
        assert text in printed
    assert printed


@pytest.mark.browser
@pytest.mark.parametrize("isolated", [True, False])
def test_the_page_works_under_the_policy_of_the_documentation(
    isolated: bool, indexed: Path, serve: Callable[[Path], str], page: Page
) -> None:
    """And without the two Cross-Origin headers, as on hosts that send none."""
    text = (ROOT / "docs/offline.md").read_text("utf-8")
    policy = re.findall(r"^    Content-Security-Policy: (.*)$", text, re.M)[0]

    def as_the_host_sends(route: Route) -> None:
        response = route.fetch()
        headers = {"content-security-policy": policy} | response.headers
        if not isolated:
            headers = {name: value for name, value in headers.items() if not name.startswith("cross-origin-")}
        route.fulfill(response=response, headers=headers)

    page.context.route("**/*", as_the_host_sends)
    page.goto(serve(indexed / "site") + "insitu/search.html?q=can+I+send+it+back")
    expect(page.get_by_role("link").first).to_have_text("Returns", timeout=120_000)
    assert page.evaluate("crossOriginIsolated") is isolated
