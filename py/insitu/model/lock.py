"""`model.lock.json`: what an exported model folder holds. Written by the export, read in CPython and in the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from insitu.errors import DimUnsupported, ModelCorrupt, TaskUnsupported
from insitu.runtime import FileRef
from insitu.space import Space, hash_prompts

FORMAT = "insitu-model"
VERSION = 2

# `dim="auto"`: a large collection of one person. Its vectors take at most these shares of a device's memory and of the
# room that is free, and are scanned in a fifth of the 100 ms in which an answer seems immediate (Nielsen, 1993).
PASSAGES = 100_000
MEMORY_SHARE, ROOM_SHARE, SCAN_MS = 64, 10, 20
# Below that models lose more than a device gains.
LEAST_DIM = 128


@dataclass(frozen=True)
class RowBlocks:
    """What a part of the table of token rows is checked by: for each `rows` records one hash, the first 16 bytes of a
    SHA-256, in the file `hashes`."""

    rows: int
    hashes: FileRef


@dataclass(frozen=True)
class ModelLock:
    """An exported model.

    `full_dim` is the size of the graph's largest vector and of a token row; `dims` are the sizes worth using,
    largest first (any size from 1 to `full_dim` works). `max_tokens` counts special tokens. `prefix_ids` and
    `suffix_ids` are put around the ids of each text. `prompts` maps a task to the text put before each input, in
    which `{title}` stands for the input's title. `rows` holds `row_count` records: `full_dim` values and a float32
    scale. `row_bits` of a value are 8 (int8), 4 (see `insitu.model.quantise.pack_rows`) or 32 (float32: for CPython
    only). A published graph holds its table itself: `rows` and `row_blocks` are None, its inputs are ids below
    `row_count`, and `data` are the files beside it that hold its weights. `vocabulary` is the tokenizer as the page
    reads it, None where it takes `tokenizer` for that. `canary` holds golden texts that the page tries a device
    with: their `ids`, and the `embedding` at full size (float16, base64). `finer` names the matrix products that
    are kept as `q8` has them.
    """

    name: str
    variant: str
    family: str
    licence: str
    full_dim: int
    dims: tuple[int, ...]
    default_dim: int
    max_tokens: int
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    pad_id: int
    prompts: Mapping[str, str]
    weights: str
    graph: FileRef
    rows: FileRef | None
    row_count: int
    row_blocks: RowBlocks | None
    tokenizer: FileRef
    row_bits: int = 8
    vocabulary: FileRef | None = None
    canary: tuple[Mapping[str, Any], ...] = ()
    data: tuple[FileRef, ...] = ()
    finer: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[FileRef, ...]:
        """All files of the folder beside the lock."""
        hashes = self.row_blocks.hashes if self.row_blocks else None
        refs = (self.graph, *self.data, self.rows, hashes, self.tokenizer, self.vocabulary)
        return tuple(ref for ref in refs if ref is not None)

    def space(self, dim: int) -> Space:
        return Space(self.name, self.variant, self.weights, hash_prompts(self.prompts), self.check_dim(dim))

    def check_dim(self, dim: int | str | None) -> int:
        """`dim`, or the default for None. Raises `DimUnsupported`."""
        if dim is None:
            return self.default_dim
        if not isinstance(dim, int) or isinstance(dim, bool) or not 1 <= dim <= self.full_dim:
            raise DimUnsupported(
                f"dim {dim!r}: {self.name} makes vectors of 1 to {self.full_dim} components "
                f"({', '.join(map(str, self.dims))} are measured). Choose one of these."
            )
        return dim

    def choose_dim(self, device: Sequence[float], room: int | None) -> tuple[int, str]:
        """The size that suits a device, and why no larger one: the largest with which 100,000 passages suit it, else
        the smallest from 128 on.

        `device`: see `Runtime.device`; `room`: bytes that are free where vectors are to be stored, None where none
        are, or nobody tells.
        """
        scan, memory = device
        reason = "full size"
        *larger, least = [dim for dim in self.dims if dim >= LEAST_DIM] or self.dims
        for dim in larger:
            size = PASSAGES * (dim + 8)
            most = {"scan": scan * SCAN_MS, "memory": memory / MEMORY_SHARE}
            if room is not None:
                most["room"] = room / ROOM_SHARE
            over = [f"{what} suits {limit / 1e6:.1f}" for what, limit in most.items() if limit < size]
            if not over:
                return dim, reason
            reason = f"{PASSAGES} of {dim} are {size / 1e6:.1f} MB; {', '.join(over)}"
        return least, reason

    @property
    def takes_titles(self) -> bool:
        """Whether the prompt for documents has a place for a title."""
        return "{title}" in self.prompts.get("document", "")

    def prompt(self, task: str, title: str = "") -> str:
        """The text put before an input of `task` that has this title. Raises `TaskUnsupported`."""
        if task == "none":
            return ""
        if task not in self.prompts:
            raise TaskUnsupported(f"task {task!r}: {self.name} knows {', '.join(sorted({*self.prompts, 'none'}))}.")
        # "none" is what EmbeddingGemma's model card puts where there is no title.
        return self.prompts[task].replace("{title}", " ".join(title.split()) or "none")

    def to_json(self) -> str:
        data = asdict(self)
        if not self.finer:  # a release that does not know it reads all other locks
            del data["finer"]
        return json.dumps({"format": FORMAT, "version": VERSION, **data}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> ModelLock:
        """Raises `ModelCorrupt` if the text is no lock of this version."""
        try:
            data: dict[str, Any] = json.loads(text)
            kind, version = data.pop("format"), data.pop("version")
            if kind != FORMAT or version != VERSION:
                raise ModelCorrupt(
                    f"model.lock.json is {kind!r} version {version!r}; this release reads {FORMAT!r} {VERSION}. "
                    "Export the model again: insitu models export NAME."
                )
            for key in ("graph", "tokenizer"):
                data[key] = FileRef(**data[key])
            for key in ("rows", "vocabulary"):
                data[key] = FileRef(**data[key]) if data[key] else None
            blocks = data["row_blocks"]
            data["row_blocks"] = RowBlocks(blocks["rows"], FileRef(**blocks["hashes"])) if blocks else None
            data["data"] = tuple(FileRef(**file) for file in data.get("data", ()))
            for key in ("dims", "prefix_ids", "suffix_ids"):
                data[key] = tuple(data[key])
            for key in ("canary", "finer"):
                data[key] = tuple(data.get(key, ()))
            return ModelLock(**data)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelCorrupt(
                f"model.lock.json cannot be read ({error}). Export the model again: insitu models export NAME."
            ) from error
