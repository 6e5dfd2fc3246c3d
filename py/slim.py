"""The build hook of the wheel `insitu`: sources go in without comments and inner docstrings, indented by ones.

The wheel must stay under 150 kB, as notebooks load it over the network each time they start; comments and inner
docstrings are a seventh of it. Lines keep their numbers, so a traceback points at the line of the repository.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import tokenize
import zipfile
from pathlib import Path
from typing import Any

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
    "insitu/model/export.py",
    "insitu/model/fetch.py",
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
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in files.items():
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)


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
