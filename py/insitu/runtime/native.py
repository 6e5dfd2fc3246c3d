"""The runtime of CPython: onnxruntime, tokenizers, numpy. The only module that imports onnxruntime."""

from __future__ import annotations

import asyncio
import hashlib
import os
import timeit
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.errors import IndexCorrupt, ModelCorrupt, NotANumber, RuntimeUnavailable
from insitu.model.exported import check_export, read_lock
from insitu.model.lock import ModelLock
from insitu.model.quantise import unpack_rows
from insitu.model.rows import read_rows
from insitu.runtime import Batching, Block, Codes, FileRef, Passing, TokenIds

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Float = NDArray[np.float32]

# Codes are compared in float32 blocks of this many vectors: 16 MB at 128 components, near the size of a cache.
SCAN_BLOCK = 32_768
# Bytes of codes from which on a scan would keep the event loop from other work for too long: 3 ms and more.
LONG_SCAN = 1 << 25
# Of a machine that does not tell how much it has.
DEFAULT_MEMORY = 1 << 33
# The largest component of a query, 15 bits with its sign: see web/kernel/scan.ts.
QUERY_MOST = 127 * 128


class NativeBlock:
    """See `insitu.runtime.Block`. Arrays: `array` (count, dim) float32, codes int8, scales (count,) float32."""

    def __init__(self, count: int, dim: int, full_dim: int) -> None:
        self.array: Float = np.zeros((count, dim), np.float32)
        self.code_array: Int8 = np.zeros((count, dim), np.int8)
        self.scales: Float = np.zeros(count, np.float32)
        self.full_array: Int8 = np.zeros((count, full_dim), np.int8)
        self.full_scales: Float = np.zeros(count, np.float32)

    @property
    def count(self) -> int:
        return int(self.array.shape[0])

    @property
    def dim(self) -> int:
        return int(self.array.shape[1])

    def query(self, full: bool) -> tuple[Int16, np.float32]:
        """Row 0 as a query, the very one that the page has: components, and what one unit is worth.

        A vector in 15 bits loses nearly nothing; at full size there are only codes, made longer by 128.
        """
        if full:
            return np.int16(128) * self.full_array[0], self.full_scales[0] / np.float32(128)
        row = self.array[0].astype(np.float64)
        scale = np.float32(abs(row).max(initial=0) / QUERY_MOST) or np.float32(1)
        return np.floor(row / scale + 0.5).astype(np.int16), scale

    def vectors(self) -> bytes:
        return self.array.astype("<f4", copy=False).tobytes()

    def codes(self) -> bytes:
        return self.code_array.tobytes() + self.scales.astype("<f4", copy=False).tobytes()

    def full_codes(self) -> bytes:
        return self.full_array.tobytes() + self.full_scales.astype("<f4", copy=False).tobytes()


class NativeCodes:
    """See `insitu.runtime.Codes`."""

    def __init__(self, codes: Int8, scales: Float) -> None:
        self.codes = codes
        self.scales = scales

    @property
    def count(self) -> int:
        return int(self.codes.shape[0])

    @property
    def dim(self) -> int:
        return int(self.codes.shape[1])


class NativeRuntime:
    """One exported model, opened with onnxruntime on the CPU. See `insitu.runtime.Runtime`."""

    batching = Batching()

    def __init__(
        self,
        lock: ModelLock,
        session: Any,
        tokenizer: Any,
        table: tuple[NDArray[Any], Float] | None,
        index_dir: Path | None,
    ):
        self.lock = lock
        self.index_dir = index_dir
        self._session = session
        self._tokenizer = tokenizer
        self._table = table

    @property
    def runs_on(self) -> Mapping[str, Any]:
        threads = self._session.get_session_options().intra_op_num_threads or os.cpu_count()
        return {"used": "cpu", "engine": "onnxruntime", "threads": threads}

    @classmethod
    def open(cls, model_dir: Path, *, index_dir: Path | None = None, threads: int = 0) -> NativeRuntime:
        """Open an exported model folder; `index_dir` is where `read` and `load_codes` find index files.

        `threads`: of one run, 0 for as many as there are cores. Files are checked by size and SHA-256. Raises
        `ModelNotFound`, `ModelCorrupt`, `RuntimeUnavailable`.
        """
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise RuntimeUnavailable(f"{error.name} is not installed. Install it: pip install insitu") from error
        lock = read_lock(model_dir)
        check_export(model_dir, lock)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that wait for each other in a busy loop cost a third more CPU, and on a busy machine time too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # CPUs with AVX2 and without VNNI would add products of uint8 and int8 in pairs that saturate at 16 bits.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            session = _session(onnxruntime, model_dir / lock.graph.file, options)
            tokenizer = Tokenizer.from_file(str(model_dir / lock.tokenizer.file))
        except Exception as error:  # both libraries raise their own kinds for a bad file
            raise ModelCorrupt(f"{model_dir} cannot be opened: {error}") from error
        table = None if lock.rows is None else read_rows(model_dir / lock.rows.file, lock)
        return cls(lock, session, tokenizer, table, index_dir)

    async def tokenize(self, texts: Sequence[str], limit: int | None = None) -> TokenIds:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = array("i")
        for encoding in encodings:
            ids.extend(encoding.ids)
        return TokenIds(ids, tuple(len(encoding) for encoding in encodings))

    def new_block(self, count: int, dim: int) -> NativeBlock:
        return NativeBlock(count, dim, self.lock.full_dim)

    async def forward(self, tokens: TokenIds, block: Block, positions: Sequence[int]) -> None:
        assert isinstance(block, NativeBlock)
        outputs = await asyncio.to_thread(self._run, tokens, block.dim)
        vectors, codes, scales, full_codes, full_scales = outputs
        if full_codes.shape[1] != self.lock.full_dim:
            raise ModelCorrupt(
                f"The graph of {self.lock.name} makes vectors of {full_codes.shape[1]}, not {self.lock.full_dim}. "
                "Correct full_dim in model.json and export again."
            )
        if not np.isfinite(vectors).all():
            raise NotANumber(
                "The model gave values that are no numbers on the CPU. Its file may be damaged: export again."
            )
        where = list(positions)
        block.array[where] = vectors
        block.code_array[where] = codes
        block.scales[where] = scales[:, 0]
        block.full_array[where] = full_codes
        block.full_scales[where] = full_scales[:, 0]

    def _run(self, tokens: TokenIds, dim: int) -> list[Any]:
        lengths = np.array(tokens.lengths, np.int32)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.frombuffer(tokens.ids, np.int32)
        if ids.size and ids.max() >= self.lock.row_count:
            raise ModelCorrupt(
                f"The tokenizer gave the id {ids.max()}, but the model has {self.lock.row_count} token rows: they are "
                "not of one model. Export it again."
            )
        feeds: dict[str, NDArray[Any]] = {"lengths": lengths, "dim": np.array([dim], np.int64)}
        if self._table is None:
            feeds["ids"] = np.zeros(mask.shape, np.int32)
            feeds["ids"][mask] = ids
        else:
            rows, scales = self._table
            found = rows[ids]
            if self.lock.row_bits == 4:
                found = unpack_rows(found, self.lock.full_dim)
            feeds["rows"] = np.zeros((*mask.shape, self.lock.full_dim), found.dtype)
            feeds["row_scales"] = np.zeros((*mask.shape, 1), np.float32)
            feeds["rows"][mask] = found
            feeds["row_scales"][mask, 0] = scales[ids]
        outputs = ["embedding", "codes", "scale", "full_codes", "full_scale"]
        result: list[Any] = self._session.run(outputs, feeds)
        return result

    async def device(self) -> Sequence[float]:
        codes = NativeCodes(np.ones((2 * SCAN_BLOCK, 128), np.int8), np.ones(2 * SCAN_BLOCK, np.float32))
        query = codes.codes[0].astype(np.int16)
        took = min(timeit.repeat(lambda: scan_codes(query, codes.scales[0], codes, 0), number=1, repeat=3))
        memory = DEFAULT_MEMORY
        if hasattr(os, "sysconf"):  # Windows has none
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return codes.codes.size / 1000 / took, memory

    async def read(self, ref: FileRef) -> bytes:
        return await asyncio.to_thread(self._read, ref)

    def _read(self, ref: FileRef) -> bytes:
        if self.index_dir is None:
            raise RuntimeUnavailable("This runtime was opened without an index folder.")
        path = self.index_dir / ref.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IndexCorrupt(f"{path} cannot be read ({error.strerror}). Index the site again.") from error
        if len(data) != ref.bytes or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise IndexCorrupt(
                f"{path} is not the file that was indexed: it is cut or was altered. Index the site again."
            )
        return data

    async def load_codes(self, refs: Sequence[FileRef], dim: int) -> NativeCodes:
        codes: list[Int8] = [np.zeros((0, dim), np.int8)]
        scales: list[Float] = [np.zeros(0, np.float32)]
        for ref in refs:
            data = np.frombuffer(await self.read(ref), np.uint8)
            count, rest = divmod(data.size, dim + 4)
            if rest:
                raise IndexCorrupt(f"{ref.file} does not hold vectors of {dim} components. Index the site again.")
            codes.append(data[: count * dim].view(np.int8).reshape(count, dim))
            scales.append(data[count * dim :].view("<f4").astype(np.float32))
        return NativeCodes(np.concatenate(codes), np.concatenate(scales))

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
        assert isinstance(query, NativeBlock) and isinstance(codes, NativeCodes)
        wanted, scale = query.query(full)
        if among is not None or codes.codes.size <= LONG_SCAN:
            return scan_codes(wanted, scale, codes, k, among)
        held = NativeCodes(codes.codes, codes.scales)  # as they are now: others may append
        return await asyncio.to_thread(scan_codes, wanted, scale, held, k)

    def empty_codes(self, dim: int) -> NativeCodes:
        return read_codes(b"", dim)

    def append(self, codes: Codes, part: bytes) -> None:
        assert isinstance(codes, NativeCodes)
        more = read_codes(part, codes.dim)
        codes.codes = np.concatenate([codes.codes, more.codes])
        codes.scales = np.concatenate([codes.scales, more.scales])

    def bury(self, codes: Codes, positions: Sequence[int]) -> None:
        assert isinstance(codes, NativeCodes)
        codes.scales[np.array(positions, np.int64)] = np.nan

    async def rescore(self, query: Block, rows: bytes) -> list[float]:
        assert isinstance(query, NativeBlock)
        codes = read_codes(rows, query.full_array.shape[1])
        found = scan_codes(*query.query(True), codes, codes.count)
        scores = [0.0] * codes.count
        for position, score in found:
            scores[position] = score
        return scores


def read_codes(shard: bytes, dim: int) -> NativeCodes:
    """From the layout of a shard."""
    data = np.frombuffer(shard, np.uint8)
    split = data.size // (dim + 4) * dim
    codes = data[:split].view(np.int8).reshape(-1, dim)
    return NativeCodes(codes, data[split:].view("<f4").astype(np.float32))


def _session(onnxruntime: Any, graph: Path, options: Any) -> Any:
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception:
        # Graphs of the first release, whose products share a zero point, cannot be opened so.
        options.add_session_config_entry("session.x64quantprecision", "0")
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _positions(among: Sequence[int] | Passing) -> NDArray[np.int64]:
    if isinstance(among, Passing):
        return np.flatnonzero(np.frombuffer(among.mask, np.uint8)[np.frombuffer(among.at, np.uint32)])
    return np.array(among, np.int64)


def scan_codes(
    query: Int16, scale: np.float32, codes: NativeCodes, k: int, among: Sequence[int] | Passing | None = None
) -> list[tuple[int, float]]:
    """See `Runtime.scan`. `query` (dim,) int16, no component above `QUERY_MOST`.

    Its upper and lower 7 bits are multiplied in float32, where the sums of a dim up to 1,040 (127 * 127 * dim < 2^24)
    are exact.
    """
    positions = None if among is None else _positions(among)
    table = codes.codes if positions is None else codes.codes[positions]
    scales = codes.scales if positions is None else codes.scales[positions]
    high = ((query + 64) >> 7).astype(np.float32)
    low = query - 128 * high  # two products with a vector are quicker than one with two columns
    scores = np.empty(len(table), np.float32)
    for start in range(0, len(table), SCAN_BLOCK):
        block = slice(start, start + SCAN_BLOCK)
        rows = table[block].astype(np.float32)
        products = 128 * (rows @ high).astype(np.float64) + rows @ low
        scores[block] = products.astype(np.float32) * scales[block]
    scores *= scale
    scores[np.isnan(scores)] = -np.inf  # buried
    names = np.arange(len(table)) if positions is None else positions
    k = min(k, len(scores))
    if k <= 0:
        return []
    if k < len(scores):
        least = np.partition(scores, -k)[-k]  # all at least this good: ties at the edge are settled by position
        best = np.flatnonzero(scores >= least)
    else:
        best = np.arange(len(scores))
    best = best[scores[best] > -np.inf]
    order = best[np.lexsort((names[best], -scores[best]))][:k]
    return [(int(names[i]), float(scores[i])) for i in order]
