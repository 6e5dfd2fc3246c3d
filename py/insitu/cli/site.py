"""`insitu index`, `insitu search`, `insitu serve`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

STAGES = {"read": "reading pages", "embed": "embedding chunks"}


def index(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the built site.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the index; DIR/insitu if not given.")] = None,
    model: Annotated[str, typer.Option(help="A model, as `insitu models list` shows it.")] = "minilm-l6",
    variant: Annotated[str, typer.Option(help="The arithmetic of the model's graph.")] = "int8",
    ask: Annotated[
        list[str] | None, typer.Option(help="Another variant, put beside for pages that only ask. May be repeated.")
    ] = None,
    dim: Annotated[int | None, typer.Option(help="Components scanned for each chunk; 128 if not given.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Read all pages as this, whatever they declare.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out pages whose path matches, as in 'drafts/*'. May be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Index the HTML files of a site; run again, only changed pages are embedded.

    Example: insitu index public --exclude 'drafts/*'
    """
    from insitu.site import index_site

    console = Console(stderr=True, highlight=False)
    with _progress(console) as on_progress:
        report = index_site(
            folder,
            out,
            model=model,
            variant=variant,
            asks=ask or (),
            dim=dim,
            encoding=encoding,
            exclude=exclude or (),
            on_progress=on_progress,
            on_step=lambda text: console.print(text, markup=False, soft_wrap=True),
        )
    if as_json:
        typer.echo(json.dumps({**asdict(report), "out": str(report.out)}))
    else:
        typer.echo(
            f"{report.out}: {report.pages:,} pages, {report.chunks:,} chunks, {report.bytes:,} bytes, "
            f"{report.seconds:.1f} s"
        )
        typer.echo(
            f"embedded {report.pages_embedded:,} pages ({report.chunks_embedded:,} chunks), "
            f"reused {report.pages_reused:,} ({report.chunks_reused:,}), removed {report.pages_removed:,}; "
            f"{len(report.empty):,} pages have no text"
        )
    if not report.web:
        console.print(
            "The search page is not there: only `insitu search` works. For the page: pip install 'insitu[web]', then "
            "run this again.",
            markup=False,
            soft_wrap=True,
        )


def search(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The site, or the folder of its index.")],
    question: Annotated[str, typer.Argument(help="What you want to know, in your own words.")],
    k: Annotated[int, typer.Option("-k", help="How many passages.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON array of hits: url, title, heading, text, score.")
    ] = False,
) -> None:
    """Find the passages that answer a question.

    Example: insitu search public "how do I join two paths?" -k 5
    """
    from insitu.sync import open_index

    hits = open_index(folder).search(question, k)
    if as_json:
        typer.echo(json.dumps([hit.as_dict() for hit in hits], ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    for hit in hits:
        where = hit.title if hit.heading in ("", hit.title) else f"{hit.title} - {hit.heading}"
        console.print(f"{hit.score:.3f}  {where}", markup=False, style="bold")
        console.print(f"       {hit.url}", markup=False, style="cyan")
        text = " ".join(hit.text.split())
        console.print(f"       {text[:240]}{'...' if len(text) > 240 else ''}", markup=False)


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to serve.")],
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.")] = 8000,
) -> None:
    """Serve a folder on this machine as the search page wants it: threads, ranges, right types.

    Example: insitu serve public --port 8000
    """
    from insitu.serve import make_server

    server = make_server(folder, port)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    typer.echo(f"{folder} is served at {address} (Ctrl+C ends it)")
    if (folder / "insitu/search.html").is_file():
        typer.echo(f"search page: {address}insitu/search.html")
    elif (folder / "search.html").is_file():
        typer.echo(f"search page: {address}search.html")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        server.server_close()


class _Bars:
    """One bar for each stage, on stderr."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(STAGES.get(stage, stage), total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def _progress(console: Console) -> Iterator[_Bars | None]:
    """Bars where stderr is a terminal, silence where it is a file."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)
