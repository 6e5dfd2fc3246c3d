"""From published weights to an exported model: graph, token rows, tokenizer, lock. onnx and numpy only."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from insitu.errors import ModelCorrupt, ModelNotFound, VariantUnsupported
from insitu.model import bert, cache, gemma
from insitu.model import published as published_graph
from insitu.model.calibrate import Build, moments_of
from insitu.model.feedback import Float64
from insitu.model.graph import Graph
from insitu.model.licence import require_licence
from insitu.model.lock import ModelLock, RowBlocks
from insitu.model.manifest import Manifest, load
from insitu.model.quantise import Float, Int8, UInt8, pack_rows, quantise_rows
from insitu.model.rotation import read_rotation
from insitu.model.rows import write_rows
from insitu.model.smoothing import read_smoothing
from insitu.model.variants import Linear, finer_linear, row_bits
from insitu.model.verify import golden_cases
from insitu.model.vocabulary import NotCompact, pack_vocabulary
from insitu.model.weights import Weights
from insitu.runtime import FileRef

Step = Callable[[str], None]
"""Called with the name of each step as it begins."""


def export(
    name: str,
    variant: str = "int8",
    *,
    source: Path | None = None,
    out: Path | None = None,
    accept_licence: bool = False,
    rows: int | None = None,
    finer: Sequence[str] = (),
    linear: Linear | None = None,
    moments: dict[str, Float64] | None = None,
    on_step: Step | None = None,
) -> Path:
    """Write the exported model `name` and return its folder.

    `name` is a known model or a folder with a `model.json`. `source` holds the published files (default: where `fetch`
    puts them, or that folder), checked by hash; `out` is the folder written (default: in `models_dir()`). `rows` are
    the bits of a component of a token row: 8, or 4 for a table of half the size; the matrix products named in
    `finer` are as `q8` has them (gemma only). `linear`
    multiplies in the place of the variant's own way, and `moments` are what `insitu.model.calibrate` found before,
    or are filled with it, for `insitu.model.report` (gemma only). A previous export stays
    whole until the new one is complete. Raises `ModelNotFound`, `VariantUnsupported`, `ModelCorrupt`,
    `LicenceNotAccepted`, `DiskFull`.
    """
    manifest = load(name).of_variant(variant)
    bits = rows or row_bits(variant)
    if bits != row_bits(variant) and (bits != 4 or variant == "fp32" or manifest.family == "onnx"):
        raise VariantUnsupported(f"{manifest.name} {variant}: its token rows cannot have {bits} bits.")
    if finer and (manifest.family != "gemma" or variant not in ("int8", "q4")):
        raise VariantUnsupported(f"{manifest.name} {variant}: finer products are for int8 and q4 of the gemma family.")
    require_licence(manifest, accept_licence)
    source = source or cache.published_dir(manifest)
    out = out or cache.export_dir(manifest.name, variant)
    step = on_step or (lambda _: None)
    if not source.is_dir():
        raise ModelNotFound(f"{source} is not there. Fetch the weights first: insitu models fetch {name}")
    step("check the weights")
    for ref in manifest.files:
        cache.check_file(source / ref.file, ref, f"Fetch it again: insitu models fetch {name}")
    if not manifest.hashed:
        step(f"no hashes are known of {manifest.name}: its files are taken as they were found")
        found = (replace(cache.file_ref(source / ref.file), file=ref.file) for ref in manifest.files)
        manifest = replace(manifest, files=tuple(found))
    with cache.staging(out.parent) as folder:
        seen = {} if moments is None else moments
        lock = _write(
            manifest, variant, bits, finer, linear or finer_linear(variant, finer), seen, source, folder, step
        )
        (folder / "model.lock.json").write_text(lock.to_json(), encoding="utf-8")
        _replace_folder(folder, out)
    return out


def _write(
    manifest: Manifest,
    variant: str,
    bits: int,
    finer: Sequence[str],
    linear: Linear,
    moments: dict[str, Float64],
    source: Path,
    folder: Path,
    step: Step,
) -> ModelLock:
    config = manifest.config or json.loads((source / "config.json").read_text(encoding="utf-8"))
    graph = folder / f"transformer.{variant}.onnx"
    data: tuple[FileRef, ...] = ()
    rows: FileRef | None = None
    row_blocks: RowBlocks | None = None
    if manifest.family == "onnx":
        step("put inputs and outputs around the published graph")
        row_count = int(config["vocab_size"])
        model, data = _wrap(manifest, variant, source, folder)
    else:
        step("read the weights")
        weights = Weights(source / "model.safetensors")
        step("write the token rows")
        parts = _row_parts(weights, manifest, config, bits)
        row_count, rows, row_blocks = write_rows(folder, variant, parts)
    step("write the tokenizer")
    tokenizer = folder / "tokenizer.json"
    prefix, suffix, pad = _write_tokenizer(source / "tokenizer.json", tokenizer, row_count)
    products = gemma.products(config) if finer else []
    if unknown := [name for name in finer if name not in products]:
        raise VariantUnsupported(f"{manifest.name} has no product {', '.join(unknown)}: it has {', '.join(products)}.")
    if manifest.family != "onnx":
        build = _builder(manifest, variant, weights, config, source)
        if variant != "fp32" and not moments:
            table = _family(manifest).TABLE
            factor = np.float32(_family(manifest).row_factor(config))
            moments |= moments_of(
                build,
                lambda ids: weights.rows(table, ids) * factor,
                row_count,
                prefix,
                suffix,
                lambda done, all: step(f"see what the matrix products read: {done} of {all}"),
            )
        step("build the graph")
        model = build(Graph(moments=moments), linear)
    graph.write_bytes(model.SerializeToString(deterministic=True))
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
        weights=manifest.identity(bits, finer),
        graph=cache.file_ref(graph),
        rows=rows,
        row_count=row_count,
        row_blocks=row_blocks,
        tokenizer=cache.file_ref(tokenizer),
        row_bits=bits,
        vocabulary=vocabulary,
        canary=_canary(manifest),
        data=data,
        finer=tuple(sorted(finer)),
    )


def _wrap(manifest: Manifest, variant: str, source: Path, folder: Path) -> tuple[onnx.ModelProto, tuple[FileRef, ...]]:
    """The published graph of a variant, and its data files, which are brought to `folder`."""
    if not manifest.variant_files.get(variant):
        raise ModelCorrupt(f"model.json of {manifest.name} names no files of the variant {variant!r} (variant_files).")
    published = source / manifest.variant_files[variant][0].file
    model, names = published_graph.wrap(published, manifest.full_dim, manifest.pooling)
    for name in names:
        cache.link(published.with_name(name), folder / name)
    return model, tuple(cache.file_ref(folder / name) for name in names)


def _canary(manifest: Manifest) -> tuple[Mapping[str, Any], ...]:
    """The short golden texts of `golden.json`; a folder that is exported as it is has none."""
    if not (manifest.golden_folder / "golden.json").is_file():
        return ()
    found = []
    for case in golden_cases(manifest, "golden.json"):
        embedding = base64.b64encode(case["vector"].astype("<f2").tobytes()).decode()
        found.append({"ids": case["token_ids"], "embedding": embedding})
    return tuple(found)


def _row_parts(
    weights: Weights, manifest: Manifest, config: Mapping[str, Any], bits: int
) -> Iterator[tuple[Int8 | UInt8 | Float, Float]]:
    """The token table in parts: int8, packed or float32 rows with their scales."""
    family = _family(manifest)
    if family.TABLE not in weights or weights.shape(family.TABLE)[1] != manifest.full_dim:
        raise ModelCorrupt(f"model.safetensors: {family.TABLE} should have rows of {manifest.full_dim}.")
    factor = np.float32(family.row_factor(config))
    for block in weights.blocks(family.TABLE):
        if bits == 32:
            yield block, np.full(len(block), factor)
        else:
            codes, scales = quantise_rows(block) if bits == 8 else pack_rows(block)
            yield codes, scales * factor


def _family(manifest: Manifest) -> Any:
    if manifest.family not in ("bert", "gemma"):
        raise ModelCorrupt(f"{manifest.name}: this release cannot export the family {manifest.family!r}.")
    return gemma if manifest.family == "gemma" else bert


def _builder(manifest: Manifest, variant: str, weights: Weights, config: Mapping[str, Any], source: Path) -> Build:
    """What builds the graph of a manifest, again and again."""
    if manifest.family == "gemma":
        dense = _dense(manifest, source)
        return lambda graph, linear: gemma.build(weights, config, dense, linear, row_bits(variant), graph)
    smoothing = read_smoothing(manifest, int(config["num_hidden_layers"]), manifest.full_dim)
    of = (weights, config, read_rotation(manifest), smoothing, manifest.max_tokens, manifest.pooling)
    return lambda graph, linear: bert.build(*of, graph, linear, row_bits(variant))


def _dense(manifest: Manifest, source: Path) -> Float | None:
    """The product of the Dense layers behind pooling (full_dim x size): they have no bias and no activation."""
    product: Float64 | None = None
    for ref in manifest.files:
        if "_Dense/" in ref.file:
            layer = Weights(source / ref.file)
            if "linear.bias" in layer or "linear.weight" not in layer:
                raise ModelCorrupt(f"{ref.file}: one weight and no bias are known here, found {', '.join(layer)}.")
            weight = layer["linear.weight"].astype(np.float64)  # the same sums on every machine, once they are rounded
            product = weight if product is None else weight @ product
    if product is not None and product.shape != (manifest.full_dim, manifest.full_dim):
        raise ModelCorrupt(f"The Dense layers make {product.shape}, not {manifest.full_dim} squared.")
    return None if product is None else product.astype(np.float32)


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
