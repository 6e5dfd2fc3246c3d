"""Model and web files beside an index, so that the folder can be uploaded as it is."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from insitu.errors import WriteFailed
from insitu.model import cache
from insitu.model.lock import ModelLock

MODELS = "model"
WEB_LIST = "web-files.json"  # the names of the web files placed, so that a later release takes its old ones away
RESERVED = frozenset(("index", "index.json", MODELS, WEB_LIST))


def model_folder(lock: ModelLock) -> str:
    """Where a model lies below the index. Its name changes with its content, so it may be cached for ever."""
    return f"{MODELS}/{lock.name}-{lock.variant}-{lock.weights[:16]}"


def place(model_dir: Path, lock: ModelLock, out: Path) -> bool:
    """Bring model and web files to `out`; False if there are no web files to bring. Raises OSError, `WriteFailed`."""
    place_model(model_dir, lock, out)
    return place_web(out)


def place_model(model_dir: Path, lock: ModelLock, out: Path) -> None:
    """Bring the model's files to `out`: linked where the file system can, else copied. Raises OSError.

    All of them: the page leaves tokenizer.json alone, but `insitu search` reads it.
    """
    folder = out / model_folder(lock)
    for ref in lock.files:
        _place(model_dir / ref.file, folder / ref.file, link=True)
    _place(model_dir / "model.lock.json", folder / "model.lock.json", link=True)


def remove_other_models(keep: Collection[str], out: Path) -> None:
    """Take away the models of earlier indexes; what stays by an error costs space only."""
    for folder in (out / MODELS).iterdir():
        if f"{MODELS}/{folder.name}" not in keep and (folder / "model.lock.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)


def place_web(out: Path) -> bool:
    """Copy the web files of the package `insitu-web` to `out`; False if it is not installed. Raises OSError.

    Copied, not linked: who edits a file of the site must not edit the package.
    """
    try:
        import insitu_web

        source = Path(insitu_web.files())
    except (ImportError, FileNotFoundError):  # not installed, or a checkout in which they are not built
        return False
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    clash = RESERVED.intersection(name.partition("/")[0] for name in names)
    if clash:
        raise WriteFailed(f"{source} holds {', '.join(sorted(clash))}, which the index uses. Reinstall insitu-web.")
    for name in names:
        _place(source / name, out / name, link=False)
    listed = out / WEB_LIST
    with contextlib.suppress(OSError, ValueError, TypeError):
        for name in set(json.loads(listed.read_text("utf-8"))) - set(names):
            old = out / name
            if out.resolve() in old.resolve().parents:
                old.unlink(missing_ok=True)
    listed.write_text(json.dumps(names, indent=1) + "\n", "utf-8")
    return True


def _place(source: Path, target: Path, *, link: bool) -> None:
    """`target` becomes a file with the content of `source`, in one step; one that has it already is left alone."""
    if target.is_file() and (source.samefile(target) or filecmp.cmp(source, target, shallow=False)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        (cache.link if link else shutil.copyfile)(source, beside)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
