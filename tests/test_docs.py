"""The documentation: its links lead somewhere, its tables are complete, its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from conftest import ROOT
from insitu import errors


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "docs/site.py", folder], check=True)
    return folder


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path) -> None:
    trees = {path.name: LexborHTMLParser(path.read_text("utf-8")) for path in site.glob("*.html")}
    assert len(trees) > 10
    anchors = {name: {node.attributes.get("id") for node in tree.css("[id]")} for name, tree in trees.items()}
    broken = []
    for name, tree in trees.items():
        for node in tree.css("a[href], img[src], link[href]"):
            target = node.attributes.get("href") or node.attributes.get("src") or ""
            if re.match(r"https?:|data:", target):
                continue
            file, _, anchor = target.partition("#")
            there = (site / file).exists() if file else True
            if not there or (anchor and anchor not in anchors.get(file or name, set())):
                broken.append(f"{name}: {target}")
    assert broken == []


def test_making_the_site_again_leaves_its_files_and_an_index_alone(site: Path) -> None:
    (site / "insitu").mkdir(exist_ok=True)
    (site / "insitu/index.json").write_text("{}")
    (site / "old.html").write_text("a page of a former time")
    before = {path.name: path.stat().st_mtime_ns for path in site.glob("*.html") if path.name != "old.html"}
    subprocess.run([sys.executable, ROOT / "docs/site.py", site], check=True)
    assert {path.name: path.stat().st_mtime_ns for path in site.glob("*.html")} == before
    assert (site / "insitu/index.json").exists()


def test_every_error_code_is_explained() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.InsituError)]
    python = {kind.code for kind in kinds} - {"insitu"}
    script = "\n".join(path.read_text("utf-8") for path in (ROOT / "web/src").glob("*.ts"))
    web = set(re.findall(r'(?:InsituError|#die)\(\s*"([a-z-]+)"', script))
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/errors.md").read_text("utf-8"), re.M))
    assert python and web
    assert (python | web) - explained == set()
    assert explained - python - web - {"internal"} == set()


def test_the_cli_reference_names_every_command_and_option() -> None:
    from typer.main import get_command

    from insitu.cli import app

    text = (ROOT / "docs/cli.md").read_text("utf-8")
    missing = []

    def look(command: object, name: str) -> None:
        for word, part in getattr(command, "commands", {}).items():
            look(part, f"{name} {word}")
        if not getattr(command, "commands", {}):
            if f"## {name}" not in text:
                missing.append(name)
            section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
            options = [option for parameter in getattr(command, "params", ()) for option in parameter.opts]
            missing.extend(
                f"{name} {option}" for option in options if option.startswith("--") and option not in section
            )

    look(get_command(app), "insitu")
    assert missing == []
