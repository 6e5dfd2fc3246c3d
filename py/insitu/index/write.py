"""Index files to disk: the new ones first, then `index.json` in one step, then the old ones away.

Whenever it ends, by an error or by a power cut, the folder holds one whole index: the old or the new.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from insitu.errors import DiskFull, WriteFailed
from insitu.index.format import (
    ENTRY,
    FILE_NAME,
    FOLDER,
    SHARD_VECTORS,
    TEXTS_PER_FILE,
    ChunkEntry,
    IndexManifest,
    PageEntry,
    Shard,
    Texts,
    pack_pages,
    pack_texts,
    ref_of,
)
from insitu.runtime import FileRef
from insitu.space import Space


@dataclass(frozen=True)
class Rows:
    """Codes of some vectors: `codes` count x dim int8, `scales` count float32 (4 bytes each, little-endian)."""

    codes: bytes
    scales: bytes

    @staticmethod
    def of(shard: bytes, dim: int) -> Rows:
        """From the layout of a shard (see `Block.codes`)."""
        count = len(shard) // (dim + 4)
        return Rows(shard[: count * dim], shard[count * dim :])

    def part(self, first: int, count: int) -> Rows:
        dim = len(self.codes) // max(1, len(self.scales) // 4)
        return Rows(self.codes[first * dim : (first + count) * dim], self.scales[first * 4 : (first + count) * 4])

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        return Rows(b"".join(part.codes for part in parts), b"".join(part.scales for part in parts))


@dataclass(frozen=True)
class Contents:
    """What an index is made of. `vectors` and `full` hold a row for each of `chunks`, in their order."""

    space: Space
    full_dim: int
    title: str
    model: str
    pages: Sequence[PageEntry]
    chunks: Sequence[ChunkEntry]
    vectors: Rows
    full: Rows
    asks: Mapping[str, str] = field(default_factory=dict)


def write_index(out: Path, contents: Contents) -> IndexManifest:
    """Write the index into the folder `out`, in place of the one there.

    Raises `DiskFull` or `WriteFailed`; then the index that was there before is whole and nothing else is left behind.
    """
    files: dict[FileRef, bytes] = {}
    manifest = _lay_out(contents, files)
    written: list[Path] = []
    with writing(out):
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        try:
            for ref, data in files.items():
                if not _is_there(out / ref.file, ref):
                    written.append(out / ref.file)
                    replace_file(out / ref.file, data)
            _sync_folder(out / FOLDER)
            replace_file(out / ENTRY, manifest.to_json().encode())
        except BaseException:  # an interrupt too
            for path in written:
                path.unlink(missing_ok=True)
            raise
        _sync_folder(out)
    keep = {ref.file for ref in manifest.files()}
    for path in (out / FOLDER).iterdir():
        name = f"{FOLDER}/{path.name}"
        if name not in keep and FILE_NAME.fullmatch(name):
            with contextlib.suppress(OSError):  # a stale file that stays costs space and nothing else
                path.unlink()
    return manifest


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turns errors of the disk into `DiskFull` and `WriteFailed`."""
    try:
        yield
    except OSError as error:
        path = error.filename or where
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"No space left while writing {path}. The index that is there is whole. Make room and try again."
            ) from error
        raise WriteFailed(
            f"{path} cannot be written ({error.strerror or error}). The index that is there is whole. "
            "Choose another folder with --out, or correct its permissions."
        ) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside it first, onto the disk, then renamed. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _lay_out(contents: Contents, files: dict[FileRef, bytes]) -> IndexManifest:
    def add(kind: str, data: bytes) -> FileRef:
        ref = ref_of(kind, data)
        files[ref] = data
        return ref

    total = len(contents.chunks)
    shards = []
    for first in range(0, total, SHARD_VECTORS):
        count = min(SHARD_VECTORS, total - first)
        vectors, full = contents.vectors.part(first, count), contents.full.part(first, count)
        shards.append(
            Shard(first, count, add("vectors", vectors.codes + vectors.scales), add("full", full.codes + full.scales))
        )
    texts = []
    for first in range(0, total, TEXTS_PER_FILE):
        part = contents.chunks[first : first + TEXTS_PER_FILE]
        texts.append(Texts(first, len(part), add("texts", pack_texts(part))))
    return IndexManifest(
        space=contents.space.name,
        dim=contents.space.dim,
        full_dim=contents.full_dim,
        count=total,
        model=contents.model,
        asks=contents.asks,
        title=contents.title,
        pages=add("pages", pack_pages(contents.pages)),
        shards=tuple(shards),
        texts=tuple(texts),
    )


def _is_there(path: Path, ref: FileRef) -> bool:
    try:
        return path.stat().st_size == ref.bytes and sha256(path.read_bytes()).hexdigest() == ref.sha256
    except OSError:
        return False


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # folders cannot be synced there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
