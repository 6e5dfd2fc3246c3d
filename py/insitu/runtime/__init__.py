"""The seam between the core and the place where it runs.

`Runtime` is the one plug point. It has three implementations: `native` (CPython: onnxruntime, tokenizers, numpy),
`web` (Pyodide: onnxruntime-web, a JS tokenizer, the WASM scan kernel), and a fake in the tests. What crosses it is
plain: text, bytes, lists of ints. Vectors do not cross it at all: they stay in a `Block` or `Codes` that the runtime
owns, so in the page they never become Python objects.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class TokenIds:
    """The ids of several texts, flat. `ids` is an `array('i')` (int32); text i owns `lengths[i]` of them, in order."""

    ids: array[int]
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.lengths)

    def split(self) -> list[array[int]]:
        """One `array('i')` for each text."""
        parts, start = [], 0
        for length in self.lengths:
            parts.append(self.ids[start : start + length])
            start += length
        return parts


@dataclass(frozen=True)
class FileRef:
    """A file of an index: its name below the index, its size in bytes and its SHA-256 (hex)."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Batching:
    """What batches suit a model where it runs.

    `tokens`: of a batch, padding counted. `padding`: a text joins a batch while padding it costs at most this many
    tokens; None where texts are not padded at all.
    """

    tokens: int = 512
    padding: int | None = 2


class Block(Protocol):
    """Vectors of `count` texts, filled by `Runtime.forward`, owned by the runtime.

    For each text: a float32 unit vector of `dim`, its int8 codes with one float32 scale, and int8 codes with one
    scale of the full-size vector.
    """

    @property
    def count(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def vectors(self) -> bytes:
        """count x dim float32, little-endian, row-major; each row has length 1."""

    def codes(self) -> bytes:
        """count x dim int8, then count float32 scales, little-endian: the layout of a vector shard."""

    def full_codes(self) -> bytes:
        """count x full_dim int8, then count float32 scales: the layout of a full-size shard."""


@dataclass(frozen=True)
class Passing:
    """Rows that a filter lets pass: those whose place in `mask` (`at`, `array('I')`, of each row) holds a 1."""

    mask: bytes
    at: array[int]


class Codes(Protocol):
    """int8 codes with one scale per vector, loaded for scanning, owned by the runtime."""

    @property
    def count(self) -> int: ...

    @property
    def dim(self) -> int: ...


class Runtime(Protocol):
    """What the core needs of the place where it runs, for one opened model. See `native` and `web`."""

    @property
    def batching(self) -> Batching: ...

    @property
    def runs_on(self) -> Mapping[str, Any]:
        """Where the model runs now: `used` ("cpu", "wasm", "webgpu"), `engine`, `threads` of one run."""

    async def tokenize(self, texts: Sequence[str], limit: int | None = None) -> TokenIds:
        """Ids of each text without special tokens. Texts are well-formed Unicode.

        What follows the first `limit` ids of a text may be left out.
        """

    def new_block(self, count: int, dim: int) -> Block:
        """An empty block for `count` vectors of `dim`."""

    async def forward(self, tokens: TokenIds, block: Block, positions: Sequence[int]) -> None:
        """Run the model on one batch; ids carry their special tokens.

        Text i of `tokens` is written to row `positions[i]` of `block`. Raises `NotANumber` if the model gave NaN.
        """

    async def device(self) -> Sequence[float]:
        """Bytes of codes that are scanned in a millisecond here, measured, and bytes of memory."""

    async def read(self, ref: FileRef) -> bytes:
        """The bytes of one index file, size and SHA-256 checked (`IndexCorrupt` otherwise)."""

    async def load_codes(self, refs: Sequence[FileRef], dim: int) -> Codes:
        """Read vector shards, one after another, into one `Codes`. Sizes and hashes are checked."""

    async def scan(
        self,
        query: Block,
        codes: Codes,
        k: int,
        *,
        full: bool = False,
        among: Sequence[int] | Passing | None = None,
        exact: bool = False,
    ) -> list[tuple[int, float]]:
        """The `k` best (position, cosine), best first, equal scores by position.

        Compares row 0 of `query`, in 15 bits (its full-size codes if `full`), with every vector of `codes`, or with
        those `among`. The product is exact: int32, times both scales in float32. A vector whose scale is NaN is never
        found. A long scan of all gives way to other work: it looks at none that is appended meanwhile, and may find
        one that is buried. Cancelled, it ends at once. Of a million and more
        vectors it may look at the nearest clusters only, unless `exact`: not quite all of the best are found.
        """

    def empty_codes(self, dim: int) -> Codes:
        """Codes that grow by `append`."""

    def append(self, codes: Codes, part: Any) -> None:
        """Add vectors behind those of `codes`. `part`: what a store of this place gave (see `News.parts`); in CPython
        bytes in the layout of a shard."""

    def bury(self, codes: Codes, positions: Sequence[int]) -> None:
        """The vectors at these positions are found no more."""

    async def rescore(self, query: Block, rows: bytes) -> list[float]:
        """Cosine, as `scan` has it, of row 0 of `query` at full size to each of `rows` (as `Block.full_codes`)."""
