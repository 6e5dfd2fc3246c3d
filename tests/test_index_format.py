"""Index files: what is written is read back, what is not whole is refused, a failed write changes nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import fake_lock
from insitu.errors import DiskFull, IndexCorrupt, IndexVersion, InsituError, WriteFailed
from insitu.index.format import (
    ChunkEntry,
    IndexManifest,
    PageEntry,
    pack_pages,
    pack_texts,
    parse_pages,
    parse_texts,
)
from insitu.index.previous import Previous
from insitu.index.write import Contents, Rows, write_index

LOCK = fake_lock()
SPACE = LOCK.space(8)

texts = st.text(st.characters(codec="utf-8"), max_size=20)


def contents(count: int = 5, word: str = "text") -> Contents:
    chunks = [ChunkEntry(0 if i < 2 else 1, f"H{i}", "a", f"{word} {i}") for i in range(count)]
    pages = [PageEntry("a.html", "A", "1" * 64, 0, 2), PageEntry("b.html", "B", "2" * 64, 2, count - 2)]

    def rows(dim: int) -> Rows:
        return Rows(bytes(i % 100 for i in range(count * dim)), b"\0\0\x80?" * count)

    return Contents(SPACE, 16, "Site", "", pages, chunks, rows(8), rows(16))


def manifest(tmp_path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(write_index(tmp_path, contents()).to_json())
    return data


def whole(folder: Path, word: str) -> bool:
    """Whether the folder holds the index of `contents(word=word)`, each file as its hash says."""
    previous = Previous.read(folder, SPACE, 16)
    return "2" * 64 in previous and previous.page("2" * 64).chunks[0].text == f"{word} 2"


def test_an_index_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_index(tmp_path, contents())
    assert IndexManifest.from_json((tmp_path / "index.json").read_bytes()) == written
    known = Previous.read(tmp_path, SPACE, 16).page("2" * 64)
    assert known.chunks == contents().chunks[2:]
    assert (known.vectors, known.full) == (contents().vectors.part(2, 3), contents().full.part(2, 3))


@given(st.lists(st.builds(ChunkEntry, st.integers(0, 3), texts, texts, texts)))
def test_texts_are_read_back(chunks: list[ChunkEntry]) -> None:
    assert parse_texts(pack_texts(chunks), len(chunks), 4) == chunks


@given(st.lists(st.tuples(texts, texts, st.integers(1, 9)), max_size=20))
def test_pages_are_read_back_and_each_chunk_finds_its_own(pages: list[tuple[str, str, int]]) -> None:
    entries, first = [], 0
    for url, title, count in pages:
        entries.append(PageEntry(url, title, "0" * 64, first, count))
        first += count
    listed = parse_pages(pack_pages(entries), first)
    assert list(listed.pages) == entries
    owners = [number for number, (_, _, count) in enumerate(pages) for _ in range(count)]
    assert [listed.of(chunk) for chunk in range(first)] == owners


def test_another_version_is_refused_with_both_named(tmp_path: Path) -> None:
    data = manifest(tmp_path)
    data["version"] = 7
    with pytest.raises(IndexVersion, match=r"version 7.*version 1"):
        IndexManifest.from_json(json.dumps(data))


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no format": lambda d: d.pop("format"),
    "no space": lambda d: d.pop("space"),
    "no dim": lambda d: d.update(dim=0),
    "dim is text": lambda d: d.update(dim="8"),
    "dim above the full one": lambda d: d.update(dim=17),
    "count too small": lambda d: d.update(count=4),
    "a gap": lambda d: d["texts"][0].update(first=1),
    "shard of another size": lambda d: d["shards"][0]["vectors"].update(bytes=59),
    "full shard of another size": lambda d: d["shards"][0]["full"].update(bytes=1),
    "a hash that is none": lambda d: d["pages"].update(sha256="x"),
    "a hash of another file": lambda d: d["pages"].update(sha256="0" * 64),
    "a path that leads out": lambda d: d["pages"].update(file="../../etc/passwd"),
    "a path to another server": lambda d: d["pages"].update(file="//host/index/pages-0.json"),
    "a kind that is another": lambda d: d["pages"].update(file=d["texts"][0]["file"], sha256=d["texts"][0]["sha256"]),
    "a model elsewhere": lambda d: d.update(model="https://host/model.lock.json"),
    "shards is no list": lambda d: d.update(shards=3),
    "shards holds numbers": lambda d: d.update(shards=[3]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_entry_is_refused(tmp_path: Path, how: str) -> None:
    data = manifest(tmp_path)
    assert IndexManifest.from_json(json.dumps(data))
    BROKEN[how](data)
    with pytest.raises(IndexCorrupt):
        IndexManifest.from_json(json.dumps(data))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"\xff", b'{"format": 1}'])
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(IndexCorrupt):
        IndexManifest.from_json(data)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[3]", b"[[9,1,2,3]]", b'[[0,"","",""],[0,"","",""]]', b'[[4,"","",""]]']
)
def test_damaged_texts_are_refused(data: bytes) -> None:
    with pytest.raises(IndexCorrupt):
        parse_texts(data, 1, 4)


@pytest.mark.parametrize("data", [b"", b"[3]", b"[]", b'[{"url":"a","title":"","hash":"","first":1,"count":1}]'])
def test_damaged_pages_are_refused(data: bytes) -> None:
    with pytest.raises(IndexCorrupt):
        parse_pages(data, 1)


def test_what_the_new_index_does_not_need_is_taken_away(tmp_path: Path) -> None:
    write_index(tmp_path, contents(word="old"))
    (tmp_path / "index/notes.txt").write_text("not ours")
    new = write_index(tmp_path, contents(word="new"))
    left = {f"index/{path.name}" for path in (tmp_path / "index").iterdir()}
    assert left == {ref.file for ref in new.files()} | {"index/notes.txt"}
    assert whole(tmp_path, "new")


def test_files_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    first = write_index(tmp_path, contents(word="old"))
    vectors = tmp_path / first.shards[0].vectors.file
    os.utime(vectors, (1, 1))
    write_index(tmp_path, contents(word="new"))
    assert vectors.stat().st_mtime == 1


def test_a_damaged_file_under_a_right_name_is_written_again(tmp_path: Path) -> None:
    first = write_index(tmp_path, contents())
    vectors = tmp_path / first.shards[0].vectors.file
    vectors.write_bytes(b"x" * vectors.stat().st_size)
    write_index(tmp_path, contents())
    assert whole(tmp_path, "text")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, WriteFailed), (errno.EIO, WriteFailed)],
)
@pytest.mark.parametrize("at", range(4))
def test_a_failed_write_leaves_the_old_index_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[InsituError], at: int
) -> None:
    """Each sync to the disk fails in turn: of the new file of texts, the folder, the entry, and the folder again."""
    write_index(tmp_path, contents(word="old"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    calls = 0

    def fsync(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if at < 3:
        with pytest.raises(kind, match="whole"):
            write_index(tmp_path, contents(word="new"))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert whole(tmp_path, "old")
    else:  # the new entry is in place already
        with pytest.raises(kind):
            write_index(tmp_path, contents(word="new"))
        assert whole(tmp_path, "new")


def test_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    """A real one: a file system of its own, too small for the index. Needs the right to mount."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=48k tmpfs '{small}' 2>/dev/null") != 0:
        pytest.skip("a small file system cannot be mounted here (it needs root)")
    try:
        write_index(small, contents(word="old"))
        with pytest.raises(DiskFull):
            write_index(small, contents(count=4000, word="new"))
        assert whole(small, "old")
        assert not list(small.rglob("*.part"))
    finally:
        os.system(f"umount '{small}'")


def test_no_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file where the folder should be")
    with pytest.raises(WriteFailed, match="index"):
        write_index(tmp_path, contents())
