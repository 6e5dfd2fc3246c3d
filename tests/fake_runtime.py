"""The third `Runtime`, pure Python: words are tokens, a text's vector is the sum of its words' vectors.

Deterministic, fast, and meaningful enough for search: texts that share words are near each other. Counts what it was
asked to do, so that a test can tell what was embedded.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from insitu.errors import IndexCorrupt
from insitu.model.lock import ModelLock, RowBlocks
from insitu.runtime import Batching, Block, Codes, FileRef, Passing, TokenIds

_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")
VOCABULARY = 5000


def fake_lock(*, name: str = "fake", full_dim: int = 16, max_tokens: int = 64) -> ModelLock:
    file = FileRef("none", 0, "0" * 64)
    return ModelLock(
        name=name,
        variant="int8",
        family="fake",
        licence="Apache-2.0",
        full_dim=full_dim,
        dims=(full_dim, full_dim // 2),
        default_dim=full_dim,
        max_tokens=max_tokens,
        prefix_ids=(1,),
        suffix_ids=(2,),
        pad_id=0,
        prompts={"query": "", "document": ""},
        weights=hashlib.sha256(name.encode()).hexdigest(),
        graph=file,
        rows=file,
        row_count=VOCABULARY,
        row_bits=8,
        row_blocks=RowBlocks(64, file),
        tokenizer=file,
    )


def float32(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def quantise(vector: Sequence[float], most: int = 127) -> tuple[array[int], float]:
    scale = float32(max(map(abs, vector), default=0.0) / most) or 1.0
    return array("h", (max(-most, min(most, round(value / scale))) for value in vector)), scale


class FakeBlock:
    def __init__(self, count: int, dim: int, full_dim: int) -> None:
        self.count = count
        self.dim = dim
        self.rows = [[0.0] * full_dim for _ in range(count)]

    def _cut(self, row: Sequence[float], dim: int) -> list[float]:
        length = math.sqrt(sum(value * value for value in row[:dim])) or 1.0
        return [float32(value / length) for value in row[:dim]]

    def vectors(self) -> bytes:
        return b"".join(struct.pack(f"<{self.dim}f", *self._cut(row, self.dim)) for row in self.rows)

    def _codes(self, dim: int) -> bytes:
        pairs = [quantise(self._cut(row, dim)) for row in self.rows]
        codes = b"".join(array("b", codes).tobytes() for codes, _ in pairs)
        return codes + struct.pack(f"<{len(pairs)}f", *(scale for _, scale in pairs))

    def codes(self) -> bytes:
        return self._codes(self.dim)

    def full_codes(self) -> bytes:
        return self._codes(len(self.rows[0]) if self.rows else 0)


class FakeCodes:
    def __init__(self, rows: Sequence[tuple[array[int], float]], dim: int) -> None:
        self.rows = rows
        self.dim = dim

    @property
    def count(self) -> int:
        return len(self.rows)


class FakeRuntime:
    """`embedded` lists the token counts of all texts that ran through the model; `files` the files that were read."""

    batching = Batching()
    runs_on: Mapping[str, Any] = {"used": "cpu", "engine": "none", "threads": 1}

    def __init__(self, index_dir: Path | None = None, lock: ModelLock | None = None) -> None:
        self.lock = lock or fake_lock()
        self.index_dir = index_dir
        self.embedded: list[int] = []
        self.tokenized = 0
        self.files: list[str] = []
        self.measured = (1e6, 2.0**33)

    async def tokenize(self, texts: Sequence[str], limit: int | None = None) -> TokenIds:
        ids, lengths = array("i"), []
        for text in texts:
            self.tokenized += len(text)
            words = _TOKEN.findall(text.lower())
            ids.extend(3 + crc32(word.encode()) % (VOCABULARY - 3) for word in words)
            lengths.append(len(words))
        return TokenIds(ids, tuple(lengths))

    def new_block(self, count: int, dim: int) -> FakeBlock:
        return FakeBlock(count, dim, self.lock.full_dim)

    async def forward(self, tokens: TokenIds, block: Block, positions: Sequence[int]) -> None:
        assert isinstance(block, FakeBlock)
        for position, ids in zip(positions, tokens.split(), strict=True):
            assert len(ids) <= self.lock.max_tokens
            self.embedded.append(len(ids))
            row = [0.0] * self.lock.full_dim
            for number in ids:
                digest = hashlib.sha256(number.to_bytes(4, "little")).digest() * (1 + self.lock.full_dim // 32)
                row = [value + digest[i] - 127.5 for i, value in enumerate(row)]
            block.rows[position] = row

    async def device(self) -> Sequence[float]:
        return self.measured

    async def read(self, ref: FileRef) -> bytes:
        assert self.index_dir is not None
        self.files.append(ref.file)
        try:
            data = (self.index_dir / ref.file).read_bytes()
        except OSError as error:
            raise IndexCorrupt(f"{ref.file} cannot be read") from error
        if len(data) != ref.bytes or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise IndexCorrupt(f"{ref.file} is not the file that was indexed")
        return data

    async def load_codes(self, refs: Sequence[FileRef], dim: int) -> FakeCodes:
        rows: list[tuple[array[int], float]] = []
        for ref in refs:
            data = await self.read(ref)
            rows += parse_codes(data, dim)
        return FakeCodes(rows, dim)

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
        assert isinstance(codes, FakeCodes)
        dim = self.lock.full_dim if full else query.dim
        assert isinstance(query, FakeBlock)
        wanted, scale = quantise(query._cut(query.rows[0], dim), 127 if full else 127 * 128)
        scored = []
        if isinstance(among, Passing):
            among = [row for row, place in enumerate(among.at) if among.mask[place]]
        for position in range(codes.count) if among is None else among:
            row, row_scale = codes.rows[position]
            dot = sum(a * b for a, b in zip(wanted, row, strict=True))
            if not math.isnan(row_scale):
                scored.append((position, float32(float32(dot * row_scale) * scale)))
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:k]

    def empty_codes(self, dim: int) -> FakeCodes:
        return FakeCodes([], dim)

    def append(self, codes: Codes, part: bytes) -> None:
        assert isinstance(codes, FakeCodes)
        codes.rows = [*codes.rows, *parse_codes(part, codes.dim)]

    def bury(self, codes: Codes, positions: Sequence[int]) -> None:
        assert isinstance(codes, FakeCodes)
        rows = list(codes.rows)
        for position in positions:
            rows[position] = (rows[position][0], math.nan)
        codes.rows = rows

    async def rescore(self, query: Block, rows: bytes) -> list[float]:
        codes = FakeCodes(parse_codes(rows, self.lock.full_dim), self.lock.full_dim)
        return [score for _, score in sorted(await self.scan(query, codes, codes.count, full=True))]


def parse_codes(data: bytes, dim: int) -> list[tuple[array[int], float]]:
    count = len(data) // (dim + 4)
    scales = struct.unpack(f"<{count}f", data[count * dim :])
    return [(array("b", data[i * dim : (i + 1) * dim]), scales[i]) for i in range(count)]
