"""The build hook of the wheel `insitu`: sources without comments, and inner ones without docstrings and annotations.

The wheel must stay under 150 kB, as notebooks load it over the network each time they start, and these are a fifth of
it. Lines keep their numbers, so a traceback points at the line of the repository.
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

# What users call, and what `help()`, `insitu --help` (which typer makes from annotations) and editors show.
PUBLIC = (
    "insitu/__init__.py",
    "insitu/cli/",
    "insitu/collection/collection.py",
    "insitu/collection/search.py",
    "insitu/embedder.py",
    "insitu/errors.py",
    "insitu/evaluate.py",
    "insitu/index/search.py",
    "insitu/notebook.py",
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
    """The source without comments, indented by ones; unless `public` also bare. As many lines as before."""
    text = source.decode()
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    text = "\n".join(lines)
    return _indented_by_ones(text if public else bare(text)).encode()


def bare(text: str) -> str:
    """The source without docstrings, without annotations, and without the imports that only annotations used.

    What dataclasses and protocols have in their bodies stays, and with it `from __future__ import annotations`.
    """
    lines, tree = text.encode().split(b"\n"), ast.parse(text)  # offsets of ast are bytes of UTF-8
    _drop_docstrings(lines, tree)
    _drop_annotations(lines, tree)
    left = ast.parse(b"\n".join(lines))
    idle = _names(tree) - _names(left)
    if not any(isinstance(node, ast.AnnAssign) or getattr(node, "returns", None) for node in ast.walk(left)):
        idle.add("annotations")
    _drop_imports(lines, left, idle)
    return b"\n".join(lines).decode()


def _drop_docstrings(lines: list[bytes], tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is None:
            continue
        # A body of nothing else, as protocols have it, still needs a statement.
        _replace(lines, node.body[0], b'""' if len(node.body) == 1 else b"")


def _drop_annotations(lines: list[bytes], tree: ast.Module) -> None:
    fields = {id(line) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for line in node.body}
    cuts: list[tuple[int, int, int, int]] = []  # rows and columns: from, to
    for node in ast.walk(tree):
        match node:
            case ast.arg(lineno=row, col_offset=column, arg=name, annotation=ast.expr()):
                cuts.append((row, column + len(name.encode()), *_end(node)))
            # The next two are statements outside of brackets: one whose annotation spans lines keeps it.
            case ast.FunctionDef(returns=ast.expr() as type_) | ast.AsyncFunctionDef(returns=ast.expr() as type_):
                row, column = type_.lineno, type_.col_offset
                closing = lines[row - 1].rfind(b")", 0, column)
                if type_.end_lineno == row and lines[row - 1][closing:column].split() == [b")", b"->"]:
                    cuts.append((row, closing + 1, *_end(type_)))
            case ast.AnnAssign(target=target, annotation=type_, value=ast.expr()) if id(node) not in fields:
                if target.end_lineno == type_.end_lineno:
                    cuts.append((*_end(target), *_end(type_)))
    for row, column, last, end in sorted(cuts, reverse=True):
        tail = lines[last - 1][end:]
        lines[row - 1 : last] = [lines[row - 1][:column], *[b""] * (last - row)]
        lines[last - 1] += tail


def _drop_imports(lines: list[bytes], tree: ast.Module, idle: set[str]) -> None:
    """Imports of names in `idle` leave the module's own lines, and `if TYPE_CHECKING` when it holds nothing else."""
    for statement in tree.body:
        checked = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        imports = statement.body if isinstance(statement, ast.If) and checked else [statement]
        kept = [_drop_names(lines, line, idle) for line in imports if isinstance(line, (ast.Import, ast.ImportFrom))]
        if checked and len(kept) == len(imports) and not any(kept):
            _replace(lines, statement, b"")


def _drop_names(lines: list[bytes], statement: ast.Import | ast.ImportFrom, idle: set[str]) -> bool:
    """Whether anything is left of the import."""
    names = [name for name in statement.names if (name.asname or name.name).partition(".")[0] not in idle]
    if names and len(names) < len(statement.names):
        statement.names = names
        _replace(lines, statement, ast.unparse(statement).encode())
    elif not names:
        _replace(lines, statement, b"")
    return bool(names)


def _names(tree: ast.Module) -> set[str]:
    """What code speaks of, be it in a string, as `__all__` does."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def _end(node: ast.expr | ast.arg) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _replace(lines: list[bytes], node: ast.stmt, by: bytes) -> None:
    """Put `by` in the place of a statement that has its lines for itself."""
    assert node.end_lineno is not None
    lines[node.lineno - 1 : node.end_lineno] = [b""] * (node.end_lineno - node.lineno + 1)
    lines[node.lineno - 1] = by and b" " * node.col_offset + by


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
