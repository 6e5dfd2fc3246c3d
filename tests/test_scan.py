"""The scan of CPython: exact products of a query of 15 bits, the true best k. Its twin is tests/page/test_kernel.py."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.runtime.native import QUERY_MOST, NativeBlock, NativeCodes, scan_codes


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
