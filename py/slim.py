"""The build hook of the wheel `insitu`: sources go in without comments and inner docstrings, indented by ones.

The wheel must stay under 150 kB, as notebooks load it over the network each time they start; comments and inner
docstrings are a seventh of it. Lines keep their numbers, so a traceback points at the line of the repository.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import zopfli.zlib
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What users call, and what `help()` and `insitu --help` show.
PUBLIC = (
    "insitu/__init__.py",
    "insitu/cli/",
    "insitu/collection/collection.py",
    "insitu/embedder.py",
    "insitu/errors.py",
    "insitu/evaluate.py",
    "insitu/index/search.py",
    "insitu/site.py",
    "insitu/sync.py",
)


# Its parameter is the builder's configuration, which this hook does not look at.
class Slim(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            rewrite(Path(artifact_path))


def rewrite(wheel: Path) -> None:
    """Slim all sources of a wheel, and its RECORD with them."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    record = next(info for info in files if info.filename.endswith(".dist-info/RECORD"))
    lines = []
    for info, data in files.items():
        if info.filename.endswith(".py"):
            files[info] = slim(data, public=info.filename.startswith(PUBLIC))
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[info]).digest()).rstrip(b"=").decode()
        lines.append(
            f"{info.filename},sha256={digest},{len(files[info])}" if info is not record else f"{info.filename},,"
        )
    files[record] = ("\n".join(lines) + "\n").encode()
    wheel.write_bytes(pack(files))


def pack(files: dict[zipfile.ZipInfo, bytes]) -> bytes:
    """A zip file, deflated by zopfli, which `zipfile` cannot be taught: 2.5% smaller than at zlib's highest level."""
    parts, directory, at = [], [], 0
    for info, data in files.items():
        raw, method = zopfli.zlib.compress(data)[2:-4], zipfile.ZIP_DEFLATED
        if len(raw) >= len(data):
            raw, method = data, zipfile.ZIP_STORED
        year, month, day, hour, minute, second = info.date_time
        when = hour << 11 | minute << 5 | second >> 1, (year - 1980) << 9 | month << 5 | day
        name = info.filename.encode("ascii")
        sizes = zlib.crc32(data), len(raw), len(data), len(name), 0
        common = struct.pack("<5H3I2H", 20, 0, method, *when, *sizes)
        parts += [b"PK\3\4", common, name, raw]
        made_by = info.create_system << 8 | 20
        directory += [b"PK\1\2", struct.pack("<H", made_by), common]
        directory += [struct.pack("<3H2I", 0, 0, 0, info.external_attr, at), name]
        at += 4 + len(common) + len(name) + len(raw)
    central = b"".join(directory)
    end = struct.pack("<4H2IH", 0, 0, len(files), len(files), len(central), at, 0)
    return b"".join([*parts, central, b"PK\5\6", end])


def slim(source: bytes, *, public: bool) -> bytes:
    """The source without comments, indented by ones, without docstrings unless `public`; as many lines as before."""
    text = source.decode()
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    if not public:
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if ast.get_docstring(node, clean=False) is None:
                continue
            first = node.body[0]
            assert first.end_lineno is not None
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
            # A body of nothing else, as protocols have it, still needs a statement.
            lines[first.lineno - 1] = " " * first.col_offset + ('""' if len(node.body) == 1 else "")
            lines[first.lineno - 1] = lines[first.lineno - 1].rstrip()
    return _indented_by_ones("\n".join(lines)).encode()


def _indented_by_ones(text: str) -> str:
    lines = text.split("\n")
    depth, kept = 0, dict(enumerate(lines))
    first = True  # the next token begins a statement
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            depth += 1 if token.type == tokenize.INDENT else -1
        elif token.type == tokenize.NEWLINE:
            first = True
        elif token.type not in (tokenize.NL, tokenize.ENDMARKER):
            (start, _), (end, _) = token.start, token.end
            if kept.pop(start - 1, None) is not None:
                lines[start - 1] = " " * (depth if first else 0) + lines[start - 1].lstrip()
            for inside in range(start, end):  # of a string of several lines nothing changes
                kept.pop(inside, None)
            first = False
    return "\n".join(lines)
