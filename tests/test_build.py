"""build.py: a step is made once, made again when it must be, and says what to do when it fails."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import ROOT


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """build.py, loaded afresh, with its notes in a folder of the test's own."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "build", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    return module


class Copy:
    """A step that writes what its input holds, and counts how often."""

    def __init__(self, build: ModuleType, folder: Path) -> None:
        self.build, self.source, self.target = build, folder / "source", folder / "target"
        self.source.write_text("one")
        self.runs = 0

    def step(self) -> object:
        return self.build.Step("copy", self.run, "Do this.", [self.source], [self.target])

    def run(self) -> None:
        self.runs += 1
        self.target.write_text(self.source.read_text())

    def make(self) -> int:
        self.build.done.clear()
        self.build.make(self.step)
        return self.runs


def test_a_step_runs_again_only_for_changed_inputs_or_a_lost_output(build: ModuleType, tmp_path: Path) -> None:
    copy = Copy(build, tmp_path)
    assert copy.make() == 1
    assert copy.make() == 1
    os.utime(copy.source)  # touched, not changed
    assert copy.make() == 1
    copy.source.write_text("two")
    assert copy.make() == 2
    assert copy.target.read_text() == "two"
    copy.target.unlink()
    assert copy.make() == 3


def test_a_failed_step_says_what_to_do_and_runs_again(build: ModuleType, tmp_path: Path) -> None:
    copy = Copy(build, tmp_path)
    whole = copy.run

    def broken() -> None:
        build.command([sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"])

    copy.run = broken  # type: ignore[method-assign]
    with pytest.raises(build.Failed, match=r"(?s)the reason.*exit code 3.*The step 'copy' failed\. Do this\."):
        copy.make()
    copy.run = whole  # type: ignore[method-assign]
    assert copy.make() == 1


def test_a_step_that_leaves_out_its_output_fails(build: ModuleType, tmp_path: Path) -> None:
    copy = Copy(build, tmp_path)
    copy.run = lambda: None  # type: ignore[method-assign]
    with pytest.raises(build.Failed, match=r"did not write .*target"):
        copy.make()


def test_a_program_that_is_not_there_is_named(build: ModuleType) -> None:
    with pytest.raises(build.Failed, match="no-such-program does not start"):
        build.command(["no-such-program"])


def run_build(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "build.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env, stdin=subprocess.DEVNULL)


def test_a_wrong_chromium_is_named_without_a_traceback() -> None:
    done = run_build("setup", INSITU_CHROMIUM="/no/such/chromium")
    assert done.returncode == 1
    assert "INSITU_CHROMIUM names /no/such/chromium, which is no file." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_command_is_refused_with_the_known_ones() -> None:
    done = run_build("fly")
    assert done.returncode == 2
    assert "demo" in done.stderr and "test" in done.stderr
