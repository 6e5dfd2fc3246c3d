"""Where models live on disk, and how files get there whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from insitu.errors import DiskFull, InsituError, ModelCorrupt, WriteFailed
from insitu.model.manifest import Manifest
from insitu.runtime import FileRef


def models_dir() -> Path:
    """`INSITU_MODELS`, or the user's cache folder (platformdirs). Sources and exports are below it."""
    chosen = os.environ.get("INSITU_MODELS")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("insitu", appauthor=False)) / "models"


def source_dir(name: str) -> Path:
    """Files as published."""
    return models_dir() / "sources" / name


def published_dir(manifest: Manifest) -> Path:
    """The folder of a model that is a folder, else where `fetch` puts its files."""
    folder = Path(str(manifest.folder))
    own = manifest.files and (folder / manifest.files[0].file).is_file()
    return folder if own else source_dir(manifest.name)


def export_dir(name: str, variant: str) -> Path:
    """An exported model."""
    return models_dir() / f"{name}-{variant}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, ref: FileRef, way_out: str) -> None:
    """Raise `ModelCorrupt` unless `path` has the size and the hash of `ref`."""
    if not path.is_file():
        raise ModelCorrupt(f"{path} is missing. {way_out}")
    size = path.stat().st_size
    if ref.bytes and size != ref.bytes:
        raise ModelCorrupt(f"{path} has {size:,} bytes instead of {ref.bytes:,}: it is cut or another file. {way_out}")
    found = sha256(path) if ref.sha256 else ""
    if found != ref.sha256:
        raise ModelCorrupt(f"{path} has SHA-256 {found} instead of {ref.sha256}: it was altered. {way_out}")


def file_ref(path: Path) -> FileRef:
    return FileRef(path.name, path.stat().st_size, sha256(path))


def link(source: Path, target: Path) -> None:
    """`target` becomes the file `source`, as a hard link where the file system can, else as a copy. Raises OSError."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)


def write_error(error: OSError, target: Path) -> InsituError:
    """The named error for a failed write below `target`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"No space left while writing {target}. Free some and try again; nothing was replaced.")
    return WriteFailed(f"{target} cannot be written: {error.strerror or error}. Nothing was replaced.")


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A new folder inside `parent`, gone afterwards. What is moved out of it with `os.replace` arrives whole."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".staging-", dir=parent))
    except OSError as error:
        raise write_error(error, parent) from error
    try:
        yield folder
    except OSError as error:
        raise write_error(error, parent) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
