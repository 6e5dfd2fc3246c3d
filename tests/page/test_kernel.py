"""The scan kernel: exact products, the true best k, the same from both of its builds."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

SCAN = """async ({kernel, codes, count, dim, query, scale, k, among, repeat}) => {
    const { Scanner } = await import('/parts.js');
    const module = await WebAssembly.compileStreaming(fetch(`/insitu/scan.${kernel}.wasm`));
    const scanner = new Scanner(module, kernel);
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const held = scanner.reserve(count, dim);
    const shards = codes.map(bytes);
    let first = 0;
    for (const shard of shards) first += scanner.append(held, first, shard);
    const wanted = { codes: new Int8Array(bytes(query).buffer), scale };
    const chosen = among && Int32Array.from(among);
    let found;
    const times = [];
    for (let i = 0; i < repeat; i++) {
        const start = performance.now();
        found = scanner.scan(wanted, held, k, chosen);
        times.push(performance.now() - start);
    }
    times.sort((a, b) => a - b);
    return [[...found.positions], [...found.scores], times[repeat >> 1], times[0]];
}"""
KERNELS = ("plain", "relaxed")


def pack(codes: Any, scales: Any) -> str:
    return base64.b64encode(codes.tobytes() + scales.astype("<f4").tobytes()).decode()


def scan(page: Page, kernel: str, codes: Any, scales: Any, query: Any, scale: float, k: int, **more: Any) -> Any:
    half = len(codes) // 2  # two shards, as an index has them
    shards = [pack(codes[:half], scales[:half]), pack(codes[half:], scales[half:])]
    arguments = {"kernel": kernel, "codes": shards, "count": len(codes), "dim": codes.shape[1], "k": k, "among": None}
    arguments |= {"query": base64.b64encode(query.tobytes()).decode(), "scale": scale, "repeat": 1}
    return page.evaluate(SCAN, arguments | more)


def truth(codes: Any, scales: Any, query: Any, scale: float, k: int) -> tuple[list[int], list[float]]:
    dots = codes.astype(np.int32) @ query.astype(np.int32)
    scores = dots.astype(np.float32) * scales * np.float32(scale)
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    return order.tolist(), scores[order].tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dim", [8, 64, 100, 128, 384])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_the_best_k_are_those_of_a_full_sort(opened: Page, kernel: str, dim: int, k: int) -> None:
    random = np.random.default_rng(dim * 1000 + k)
    codes = random.integers(-127, 128, (503, dim), np.int8)
    scales = random.choice(np.array([0.25, 0.5, 1.0], np.float32), 503)
    query = random.integers(-127, 128, dim, np.int8)
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 0.5, k)
    assert (positions, scores) == truth(codes, scales, query, 0.5, k)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_largest_codes_do_not_overflow(opened: Page, kernel: str) -> None:
    signs = np.random.default_rng(1).choice(np.array([-127, 127], np.int8), (64, 384))
    scales = np.ones(64, np.float32)
    positions, scores, *_ = scan(opened, kernel, signs, scales, signs[7], 1.0, 64)
    assert (positions, scores) == truth(signs, scales, signs[7], 1.0, 64)
    assert (positions[0], scores[0]) == (7, 384 * 127 * 127)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_scores_come_by_position(opened: Page, kernel: str) -> None:
    codes = np.tile(np.array([[1, 2, 3, 4], [1, 2, 3, 4], [9, 9, 9, 9]], np.int8), (30, 1))
    scales = np.ones(90, np.float32)
    positions, scores, *_ = scan(opened, kernel, codes, scales, np.array([1, 1, 1, 1], np.int8), 1.0, 50)
    assert (positions, scores) == truth(codes, scales, np.array([1, 1, 1, 1], np.int8), 1.0, 50)
    assert positions[:2] == [2, 5] and positions[30:33] == [0, 1, 3]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_scan_among_some_finds_the_best_of_these(opened: Page, kernel: str) -> None:
    random = np.random.default_rng(5)
    codes = random.integers(-127, 128, (200, 128), np.int8)
    scales = random.random(200, np.float32)
    query = random.integers(-127, 128, 128, np.int8)
    among = random.permutation(200)[:40].tolist()
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 1.0, 10, among=among)
    whole, values = truth(codes, scales, query, 1.0, 200)
    best = [(p, s) for p, s in zip(whole, values, strict=True) if p in among][:10]
    assert list(zip(positions, scores, strict=True)) == best


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_hundred_thousand_vectors_are_scanned_exactly(
    opened: Page, kernel: str, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(9)
    codes = random.integers(-127, 128, (100_000, 128), np.int8)
    scales = random.random(100_000, np.float32)
    query = random.integers(-127, 128, 128, np.int8)
    positions, scores, median, least = scan(opened, kernel, codes, scales, query, 0.01, 50, repeat=20)
    assert (positions, scores) == truth(codes, scales, query, 0.01, 50)
    with capsys.disabled():
        print(f"\n  scan of 100,000 x 128, {kernel}: median {median:.2f} ms, least {least:.2f} ms")
