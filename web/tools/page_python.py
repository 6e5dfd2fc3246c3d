"""Runs in Pyodide, from web/tools/page_python.mjs: the Python of the page, compiled, as one zip.

The standard library in the pyodide package is sources, and compiling them is most of a start. The code here is made by the
interpreter that will run it. In the zip is what `insitu.bridge` has imported, and what that may still import, but for
`LEFT_OUT`.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.machinery import ModuleSpec

# Named by modules in the zip, in functions that nothing of ours calls: debuggers, mail, other platforms, other processes.
LEFT_OUT = set(
    """
    _aix_support _android_support _apple_support _osx_support _pydatetime _pyio _pylong _pyrepl _strptime _threading_local
    argparse asyncio.__main__ asyncio.tools asyncio.windows_events asyncio.windows_utils bdb calendar cmd code
    concurrent.futures.interpreter concurrent.futures.process ctypes decimal difflib doctest email fractions ftplib getopt
    gettext html http importlib.metadata importlib.resources ipaddress logging.config logging.handlers mimetypes
    multiprocessing netrc numbers pdb pickle pkgutil platform plistlib pprint py_compile pydoc rlcompleter secrets shlex
    socketserver statistics sysconfig tarfile tracemalloc tty unittest urllib webbrowser xml xmlrpc
    """.split()
)
# Imported by name at run time: the codec of insitu.text.clean.
BY_NAME = ["encodings.utf_16_le"]
# Only dataclasses and Pyodide read docstrings: the rest of the library goes without, an eighth of its bytes.
DOCUMENTED = {"insitu", "pyodide", "_pyodide"}


def write(path: str) -> None:
    roots = [name for name in sys.modules if name.partition(".")[0] not in ("__main__", "js", "pyodide_js", __name__)]
    with zipfile.ZipFile(path, "w") as archive:
        for name, (place, source) in sorted(closure([*roots, *BY_NAME]).items()):
            optimize = 0 if name.partition(".")[0] in DOCUMENTED else 2
            code = compile(source, f"<{name}>", "exec", dont_inherit=True, optimize=optimize)
            # Without a date and without a check against a source: the same inputs give the same bytes.
            compiled = bytes(_code_to_hash_pyc(code, bytes(8), False))
            archive.writestr(zipfile.ZipInfo(place), compiled, zipfile.ZIP_DEFLATED, 9)


def closure(roots: list[str]) -> dict[str, tuple[str, str]]:
    """Place in the zip and source of each module that `roots` reach, by its name."""
    found: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        parents = [name[:at] for at, char in enumerate(name) if char == "."]
        if name in seen or not LEFT_OUT.isdisjoint([*parents, name]):
            continue
        seen.add(name)
        spec = find(name)
        if spec is None or not spec.has_location:  # part of the interpreter, or of JS
            continue
        source = spec.loader.get_source(name)
        package = spec.submodule_search_locations is not None
        found[name] = name.replace(".", "/") + ("/__init__.pyc" if package else ".pyc"), source
        waiting += parents
        waiting += imports(ast.parse(source), name if package else name.rpartition(".")[0])
    return found


def find(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # a name that is no module, or one of another platform
        return None


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of all modules that a module of `package` may import, and some that are none."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from nodes(child)
