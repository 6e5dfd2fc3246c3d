"""`insitu embed`."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import typer

# Lines read before their vectors are printed: enough for batches of like length, few enough for any size of input.
LINES_AT_ONCE = 256


def embed(
    model: Annotated[str, typer.Option(help="A model, as `insitu models list` shows it.")] = "minilm-l6",
    variant: Annotated[str, typer.Option(help="The arithmetic of the model's graph.")] = "int8",
    task: Annotated[str, typer.Option(help="Whose prompt is put in front: query, document or none.")] = "document",
    dim: Annotated[
        str, typer.Option(help="Components of each vector, or auto; the model's default if not given.")
    ] = "",
) -> None:
    """Vectors for texts: a text a line on stdin, a JSON array of numbers a line on stdout.

    Example: echo "a short text" | insitu embed --task query --dim 128
    """
    from insitu.sync import open_model

    embedder = open_model(model, variant).embedder
    if dim == "auto":
        size, reason = asyncio.run(embedder.choose_dim())
        print(f"note: dim {size}: {reason}", file=sys.stderr)
    else:
        size = embedder.lock.check_dim(int(dim) if dim.isdecimal() else dim or None)
    embedder.lock.prompt(task)  # a wrong task is told before a line is read
    lines = cut = 0
    for texts in _groups(sys.stdin):
        # An event loop for each group: inside of one, Ctrl+C would wait for the next line of stdin.
        result = asyncio.run(embedder.embed(texts, task=task, dim=size))
        numbers = struct.unpack(f"<{len(texts) * size}f", result.block.vectors())
        for first in range(0, len(numbers), size):
            # Nine digits are what a float32 needs to be read back as itself.
            print(json.dumps([float(f"{number:.9g}") for number in numbers[first : first + size]]))
        sys.stdout.flush()
        lines += len(texts)
        cut += sum(result.truncated)
    if cut:
        most = embedder.lock.max_tokens
        print(f"note: {cut} of {lines} texts have more than {most} tokens; only these were read", file=sys.stderr)


def _groups(stream: Iterable[str]) -> Iterator[list[str]]:
    lines = iter(stream)
    while group := [line.rstrip("\r\n") for line in islice(lines, LINES_AT_ONCE)]:
        yield group
