"""The command as users run it: on the real model, in a process of its own."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PAGES = {
    "index.html": ("Kitchen", "Recipes from all over the world."),
    "bread.html": (
        "Bread",
        "Mix flour, water, salt and yeast. Let the dough rise, then bake it in a hot oven.",
    ),
    "soup.html": ("Soup", "Boil vegetables in broth for half an hour and season it with pepper."),
    "knives.html": ("Knives", "Sharpen a blade on a whetstone at an angle of fifteen degrees."),
}


def insitu(*args: object, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "insitu", *map(str, args)],
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=300,
        env={**os.environ, **env},
    )


def write_site(folder: Path) -> Path:
    folder.mkdir()
    for name, (title, text) in PAGES.items():
        (folder / name).write_text(f"<title>{title}</title><main><h1 id=t>{title}</h1><p>{text}</main>", "utf-8")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """An indexed site; tests must not change it."""
    assert model_dir
    folder = write_site(tmp_path_factory.mktemp("cli") / "site")
    done = insitu("index", folder, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pages"], report["pages_embedded"], report["chunks"]) == (4, 4, 4)
    return folder


def test_search_answers_a_question_in_json(site: Path) -> None:
    done = insitu("search", site, "how do I make my own loaf", "-k", 2, "--json")
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert len(hits) == 2
    assert set(hits[0]) == {"url", "title", "heading", "text", "score"}
    assert (hits[0]["url"], hits[0]["title"], hits[0]["text"]) == ("bread.html#t", "Bread", PAGES["bread.html"][1])
    assert 1 > hits[0]["score"] > hits[1]["score"] > -1


def test_search_prints_for_people(site: Path) -> None:
    done = insitu("search", site / "insitu", "my knife is blunt", "-k", 1)
    assert done.returncode == 0, done.stderr
    assert "knives.html#t" in done.stdout
    assert "whetstone" in done.stdout


def test_the_index_is_whole_by_itself(site: Path, tmp_path: Path) -> None:
    """The model lies beside it: no models folder is needed to search."""
    done = insitu("search", site, "soup", "-k", 1, INSITU_MODELS=str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    assert "soup.html" in done.stdout


def test_index_again_embeds_the_changed_page_only(tmp_path: Path, model_dir: Path) -> None:
    assert model_dir
    folder = write_site(tmp_path / "site")
    assert insitu("index", folder).returncode == 0
    (folder / "soup.html").write_text("<main><h1>Ice cream</h1><p>Freeze cream with sugar.</main>")
    done = insitu("index", folder)
    assert "embedded 1 pages (1 chunks), reused 3 (3)" in done.stdout
    first = json.loads(insitu("search", folder, "a cold dessert", "--json").stdout)[0]
    assert first["url"] == "soup.html"


def test_embed_prints_a_vector_a_line(model_dir: Path) -> None:
    assert model_dir
    done = insitu("embed", "--dim", 64, "--task", "query", text="a cat\nein Ofen – heiß\n\na kitten\n")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(row) for row in rows] == [64] * 4
    for row in rows:
        assert math.isclose(sum(value * value for value in row), 1, abs_tol=1e-5)
    near, far = (sum(a * b for a, b in zip(rows[0], rows[i], strict=True)) for i in (3, 1))
    assert near > far + 0.2


def test_embed_gives_the_same_vectors_in_every_company(model_dir: Path) -> None:
    assert model_dir
    lines = "".join(f"text number {i} {'and more ' * (i % 7)}\n" for i in range(300))
    many = insitu("embed", "--dim", 16, text=lines).stdout.splitlines()
    one = insitu("embed", "--dim", 16, text=lines.splitlines()[299] + "\n").stdout.splitlines()
    assert len(many) == 300
    for a, b in zip(json.loads(many[299]), json.loads(one[0]), strict=True):
        assert math.isclose(a, b, abs_tol=1e-5)


def test_embed_tells_what_it_cut(model_dir: Path) -> None:
    assert model_dir
    done = insitu("embed", "--dim", 4, text="word " * 200_000 + "\nshort\n")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "1 of 2 texts have more than 256 tokens" in done.stderr


def test_bytes_that_are_no_text_have_a_result(model_dir: Path) -> None:
    assert model_dir
    done = insitu("embed", "--dim", 4, text="bad \udcff bytes\n")
    assert (done.returncode, len(json.loads(done.stdout))) == (0, 4), done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["index", "{empty}"], "no-documents"),
        (["index", "{empty}/missing"], "no-documents"),
        (["index", "{bad}"], "wrong-encoding"),
        (["index", "{site}", "--out", "{empty}/o", "--dim", "385"], "dim-unsupported"),
        (["index", "{site}", "--out", "{empty}/o", "--dim", "0"], "dim-unsupported"),
        (["index", "{site}", "--out", "{empty}/o", "--model", "nothing"], "model-not-found"),
        (["index", "{site}", "--out", "{empty}/o", "--variant", "int3"], "variant-unsupported"),
        (["index", "{site}", "--out", "{bad}/page.html"], "write-failed"),
        (["search", "{empty}", "x"], "index-not-found"),
        (["search", "{site}", "  "], "empty-query"),
        (["search", "{site}", "x", "-k", "0"], "invalid-argument"),
        (["search", "{broken}", "x"], "index-corrupt"),
        (["search", "{newer}", "x"], "index-version"),
        (["search", "{foreign}", "x"], "space-mismatch"),
        (["search", "{badmodel}", "x"], "model-corrupt"),
        (["embed", "--dim", "1000"], "dim-unsupported"),
        (["embed", "--task", "poem"], "task-unsupported"),
        (["serve", "{empty}/missing"], "invalid-argument"),
    ],
)
def test_errors_are_one_message_with_a_code(site: Path, tmp_path: Path, args: list[str], code: str) -> None:
    places = {"site": site}
    for name in ("empty", "bad"):
        places[name] = tmp_path / name
        places[name].mkdir()
    (places["bad"] / "page.html").write_bytes(b"<p>caf\xe9")
    for name in ("broken", "newer", "foreign", "badmodel"):
        places[name] = tmp_path / name
        shutil.copytree(site / "insitu", places[name])
    shard = next((places["broken"] / "index").glob("vectors-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    entry = json.loads((places["newer"] / "index.json").read_text())
    (places["newer"] / "index.json").write_text(json.dumps({**entry, "version": 2}))
    (places["foreign"] / "index.json").write_text(json.dumps({**entry, "space": "other:int8:128:0:0"}))
    graph = next((places["badmodel"] / "model").glob("*/transformer*"))
    graph.write_bytes(graph.read_bytes()[:-1000])
    done = insitu(*(arg.format(**places) for arg in args))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error [{code}]: "), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_shows_an_example_of_each_command() -> None:
    for command in ("index", "search", "serve", "embed"):
        done = insitu(command, "--help")
        assert done.returncode == 0
        assert f"insitu {command}" in done.stdout.partition("Example:")[2]


def test_a_reader_that_has_enough_is_no_error(model_dir: Path) -> None:
    assert model_dir
    command = f"yes text | head -2000 | '{sys.executable}' -m insitu embed --dim 4 | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_an_interrupt_is_one_message(model_dir: Path) -> None:
    assert model_dir
    command = [sys.executable, "-m", "insitu", "embed", "--dim", "4"]
    pipe = subprocess.PIPE

    def heed_interrupts() -> None:  # a job in the background of a script is started deaf to them
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, text=True, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write("text\n" * 256)
        process.stdin.flush()
        assert len(json.loads(process.stdout.readline())) == 4
        for _ in range(255):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        said = process.stderr.read()
        process.stdin.close()
    assert (process.returncode, said) == (
        130,
        "error [aborted]: ended from the keyboard; what was there before is whole.\n",
    )


def test_serve_tells_where_and_serves(site: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "insitu", "serve", str(site), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" served at ")[1].split()[0]
        with urllib.request.urlopen(f"{address}insitu/index.json", timeout=20) as answer:
            assert json.load(answer)["format"] == "insitu-index"
    finally:
        server.terminate()
        server.communicate(timeout=20)
