"""The command `insitu`. Thin: each command calls the library, prints, and turns errors into one message."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from insitu import __version__
from insitu.cli import embed, models, site
from insitu.errors import InsituError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Search by meaning: index a folder of HTML, ask it questions here or in the page.",
)
app.command("index")(site.index)
app.command("search")(site.search)
app.command("serve")(site.serve)
app.command("embed")(embed.embed)
app.add_typer(models.app, name="models")


INTERRUPTED = 130  # what typer ends with after Ctrl+C, as shells do


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"insitu {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: errors raised on purpose become `error [code]: ...` on stderr and exit code 1."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # texts are UTF-8 here, whatever the terminal's locale says
            stream.reconfigure(encoding="utf-8", errors="surrogateescape" if stream is sys.stdin else "replace")
    try:
        app()
    except InsituError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("error [aborted]: ended from the keyboard; what was there before is whole.", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader (`| head`) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
