"""The scan of CPython: exact products of a query of 15 bits, the true best k. Its twin is tests/page/test_kernel.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_lock
from insitu.collection.collection import Collection
from insitu.collection.folder import FolderStore
from insitu.embedder import Embedder
from insitu.runtime import Block, Codes
from insitu.runtime.native import LONG_SCAN, QUERY_MOST, NativeBlock, NativeCodes, NativeRuntime, scan_codes


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 80),
    dim=st.sampled_from([8, 100, 128, 1024]),
    k=st.integers(1, 90),
    some=st.booleans(),
)
def test_the_best_k_are_those_of_a_full_sort(seed: int, count: int, dim: int, k: int, some: bool) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-127, 128, (count, dim)).astype(np.int8)
    scales = random.choice(np.array([0.25, 0.5, np.nan], np.float32), count)
    query = random.integers(-QUERY_MOST, QUERY_MOST + 1, dim).astype(np.int16)
    among = random.permutation(count)[: count // 2].tolist() if some else None
    dots = codes.astype(np.int64) @ query.astype(np.int64)
    scores = dots.astype(np.float32) * scales * np.float32(0.5)
    alive = [i for i in (range(count) if among is None else sorted(among)) if not np.isnan(scores[i])]
    wanted = sorted(alive, key=lambda i: (-scores[i], i))[:k]
    found = scan_codes(query, np.float32(0.5), NativeCodes(codes, scales), k, among)
    assert found == [(i, float(scores[i])) for i in wanted]


def test_a_score_is_that_of_the_unrounded_query() -> None:
    """With a query of 8 bits the error is up to 0.0023 here."""
    random = np.random.default_rng(3)
    block = NativeBlock(1, 128, 384)
    block.array[0] = random.normal(size=128)
    block.array /= np.linalg.norm(block.array)
    codes = random.integers(-127, 128, (500, 128)).astype(np.int8)
    scales = (1 / np.linalg.norm(codes, axis=1)).astype(np.float32)
    found = scan_codes(*block.query(False), NativeCodes(codes, scales), 500)
    truth = codes.astype(np.float64) @ block.array[0] * scales
    assert max(abs(score - truth[i]) for i, score in found) < 0.00003


def test_codes_at_full_size_score_as_codes_of_8_bits() -> None:
    random = np.random.default_rng(4)
    block = NativeBlock(1, 8, 384)
    block.full_array[0] = random.integers(-127, 128, 384)
    block.full_scales[0] = 0.003
    codes = random.integers(-127, 128, (50, 384)).astype(np.int8)
    scales = random.random(50, np.float32)
    dots = codes.astype(np.int32) @ block.full_array[0].astype(np.int32)
    scores = dots.astype(np.float32) * scales * block.full_scales[0]
    assert dict(scan_codes(*block.query(True), NativeCodes(codes, scales), 50)) == dict(enumerate(scores.tolist()))


def test_a_long_scan_is_that_of_one_state_and_gives_way() -> None:
    """What is appended while it runs is not looked at, and the event loop goes on."""
    codes = NativeCodes(np.ones((LONG_SCAN // 1024 + 1, 1024), np.int8), np.ones(LONG_SCAN // 1024 + 1, np.float32))
    codes.scales[[5, 7]] = [3, 2]
    block = NativeBlock(1, 1024, 1024)
    block.array[0] = 1 / 32
    turns = 0

    async def scan() -> list[tuple[int, float]]:
        nonlocal turns
        runtime = NativeRuntime(fake_lock(), None, None, None, None)
        running = asyncio.ensure_future(runtime.scan(block, codes, 2))
        while not running.done():
            await asyncio.sleep(0)
            if turns == 0:
                runtime.append(codes, bytes([1] * 1024) + np.float32(9).tobytes())
            turns += 1
        return await running

    assert [position for position, _ in asyncio.run(scan())] == [5, 7]
    assert turns > 1 and codes.count == LONG_SCAN // 1024 + 2


class SlowRuntime(FakeRuntime):
    """Its scan gives way before it looks at anything; what `meanwhile` appends then, it does not look at."""

    meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def scan(self, query: Block, codes: Codes, k: int, **more: Any) -> list[tuple[int, float]]:
        act, self.meanwhile, count = self.meanwhile, None, codes.count
        if act is None:
            return await super().scan(query, codes, k, **more)
        await act()
        return await super().scan(query, codes, k, among=range(count))


def test_a_search_whose_scan_gave_way_to_a_commit_answers_from_one_state(tmp_path: Path) -> None:
    """The old row is dead, the new one came too late: a document that is there before and after is not overlooked."""

    async def main() -> None:
        runtime = SlowRuntime(lock=fake_lock())
        notes = await Collection.open(Embedder(runtime, runtime.lock), FolderStore(tmp_path))
        await notes.put([{"id": "car", "text": "the blue car"}, {"id": "cat", "text": "the cat"}])
        runtime.meanwhile = lambda: notes.put([{"id": "car", "text": "the blue car is parked"}])
        assert [hit.id for hit in await notes.search("blue car")] == ["car", "cat"]
        runtime.meanwhile = lambda: notes.delete(["cat"])
        assert [hit.id for hit in await notes.search("blue car")] == ["car"]

    asyncio.run(main())
