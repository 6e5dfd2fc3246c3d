"""From published weights to an exported model: graph, token rows, tokenizer, lock. onnx and numpy only."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from insitu.errors import ModelCorrupt, ModelNotFound
from insitu.model import bert, cache
from insitu.model.lock import ModelLock
from insitu.model.manifest import Manifest, load
from insitu.model.quantise import Float, quantise_rows
from insitu.model.rotation import read_rotation
from insitu.model.smoothing import read_smoothing
from insitu.model.vocabulary import NotCompact, pack_vocabulary
from insitu.runtime import FileRef

Step = Callable[[str], None]
"""Called with the name of each step as it begins."""


def export(
    name: str,
    variant: str = "int8",
    *,
    source: Path | None = None,
    out: Path | None = None,
    on_step: Step | None = None,
) -> Path:
    """Write the exported model `name` and return its folder.

    `source` holds the published files (default: where `fetch` puts them), checked by hash; `out` is the folder written
    (default: in `models_dir()`). A previous export stays whole until the new one is complete. Raises `ModelNotFound`,
    `VariantUnsupported`, `ModelCorrupt`, `DiskFull`.
    """
    manifest = load(name)
    manifest.check_variant(variant)
    source = source or cache.source_dir(name)
    out = out or cache.export_dir(name, variant)
    step = on_step or (lambda _: None)
    if not source.is_dir():
        raise ModelNotFound(f"{source} is not there. Fetch the weights first: insitu models fetch {name}")
    step("check the weights")
    for ref in manifest.files:
        cache.check_file(source / ref.file, ref, f"Fetch it again: insitu models fetch {name}")
    with cache.staging(out.parent) as folder:
        lock = _write(manifest, variant, source, folder, step)
        (folder / "model.lock.json").write_text(lock.to_json(), encoding="utf-8")
        _replace_folder(folder, out)
    return out


def _write(manifest: Manifest, variant: str, source: Path, folder: Path, step: Step) -> ModelLock:
    if manifest.family != "bert":
        raise ModelCorrupt(f"{manifest.name}: this release cannot export the family {manifest.family!r}.")
    step("read the weights")
    tensors = _read_tensors(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    rotation = read_rotation(manifest)
    step("write the token rows")
    table = bert.table(tensors)
    if table.shape[1] != manifest.full_dim:
        raise ModelCorrupt(f"{manifest.name}: token rows have {table.shape[1]} components, not {manifest.full_dim}.")
    rows = folder / f"rows.{variant}.bin"
    codes, scales = quantise_rows(table)
    rows.write_bytes(codes.tobytes() + scales.astype("<f4").tobytes())
    step("build the graph")
    graph = folder / f"transformer.{variant}.onnx"
    smoothing = read_smoothing(manifest, int(config["num_hidden_layers"]), manifest.full_dim)
    model = bert.build(tensors, config, rotation, smoothing, manifest.max_tokens)
    graph.write_bytes(model.SerializeToString(deterministic=True))
    step("write the tokenizer")
    tokenizer = folder / "tokenizer.json"
    prefix, suffix, pad = _write_tokenizer(source / "tokenizer.json", tokenizer, len(codes))
    vocabulary = _write_vocabulary(tokenizer, folder / "vocabulary.bin", step)
    return ModelLock(
        name=manifest.name,
        variant=variant,
        family=manifest.family,
        licence=manifest.licence,
        full_dim=manifest.full_dim,
        dims=manifest.dims,
        default_dim=manifest.default_dim,
        max_tokens=manifest.max_tokens,
        prefix_ids=prefix,
        suffix_ids=suffix,
        pad_id=pad,
        prompts=dict(manifest.prompts),
        weights=manifest.identity(),
        graph=cache.file_ref(graph),
        rows=cache.file_ref(rows),
        row_count=len(codes),
        tokenizer=cache.file_ref(tokenizer),
        vocabulary=vocabulary,
    )


def _read_tensors(path: Path) -> dict[str, Float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: tensor.astype(np.float32, copy=False) for name, tensor in load_file(path).items()}
    except (SafetensorError, ValueError) as error:
        raise ModelCorrupt(f"{path} is no safetensors file: {error}.") from error


def _write_tokenizer(source: Path, target: Path, row_count: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The tokenizer without truncation and padding (a published one may set both), compact JSON.

    Added tokens that have no row (Gemma's image token) are left out: a text that spells one is text. Returns the ids
    that its template puts before and after a text, and the padding id.
    """
    data = json.loads(source.read_text(encoding="utf-8"))
    pad = (data.get("padding") or {}).get("pad_id", 0)
    data["truncation"] = data["padding"] = None
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < row_count]
    template = data.get("post_processor") or {}
    specials = template.get("special_tokens", {})
    before: list[int] = []
    after: list[int] = []
    target_list = before
    for piece in template.get("single", []):
        if "Sequence" in piece:
            target_list = after
        else:
            target_list.extend(specials[piece["SpecialToken"]["id"]]["ids"])
    target.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return tuple(before), tuple(after), int(pad)


def _write_vocabulary(tokenizer: Path, target: Path, step: Step) -> FileRef | None:
    """What the page reads instead of tokenizer.json; None if it must take that."""
    try:
        target.write_bytes(pack_vocabulary(json.loads(tokenizer.read_text(encoding="utf-8"))))
    except NotCompact as error:
        step(f"no compact vocabulary ({error}): the page takes tokenizer.json")
        return None
    return cache.file_ref(target)


def _replace_folder(new: Path, old: Path) -> None:
    """Put `new` in the place of `old`; files first, the lock last, so that a reader never finds a lock without them."""
    old.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in new.iterdir())
    names.sort(key=lambda name: name == "model.lock.json")
    for name in names:
        os.replace(new / name, old / name)
    for path in old.iterdir():
        if path.name not in names:
            path.unlink() if path.is_file() else shutil.rmtree(path)
