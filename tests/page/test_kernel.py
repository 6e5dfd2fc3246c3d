"""The scan kernel: exact products, the true best k, the same from both of its builds."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from insitu.runtime.native import NativeBlock

SCAN = """async ({kernel, codes, count, dim, query, scale, k, among, repeat}) => {
    const { Scanner } = await import('/parts.js');
    const module = await WebAssembly.compileStreaming(fetch(`/insitu/scan.${kernel}.wasm`));
    const scanner = new Scanner(module, kernel);
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const held = scanner.reserve(count, dim);
    const shards = codes.map(bytes);
    let first = 0;
    for (const shard of shards) first += scanner.append(held, first, shard);
    const wanted = { codes: new Int16Array(bytes(query).buffer), scale };
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
MOST = 127 * 128


def pack(codes: Any, scales: Any) -> str:
    return base64.b64encode(codes.tobytes() + scales.astype("<f4").tobytes()).decode()


def scan(page: Page, kernel: str, codes: Any, scales: Any, query: Any, scale: float, k: int, **more: Any) -> Any:
    half = len(codes) // 2  # two shards, as an index has them
    shards = [pack(codes[:half], scales[:half]), pack(codes[half:], scales[half:])]
    arguments = {"kernel": kernel, "codes": shards, "count": len(codes), "dim": codes.shape[1], "k": k, "among": None}
    arguments |= {"query": base64.b64encode(query.astype("<i2").tobytes()).decode(), "scale": scale, "repeat": 1}
    return page.evaluate(SCAN, arguments | more)


def truth(codes: Any, scales: Any, query: Any, scale: float, k: int) -> tuple[list[int], list[float]]:
    dots = codes.astype(np.int64) @ query.astype(np.int64)
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
    query = random.integers(-MOST, MOST + 1, dim, np.int16)
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 0.5, k)
    assert (positions, scores) == truth(codes, scales, query, 0.5, k)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("most", [16_256, 16_319], ids=["codes", "all bits"])
def test_the_largest_products_do_not_overflow(opened: Page, kernel: str, most: int) -> None:
    signs = np.random.default_rng(1).choice(np.array([-128, 127], np.int8), (64, 1024))
    scales = np.ones(64, np.float32)
    query = np.where(signs[7] < 0, -most, most)
    positions, scores, *_ = scan(opened, kernel, signs, scales, query, 1.0, 64)
    assert (positions, scores) == truth(signs, scales, query, 1.0, 64)
    assert positions[0] == 7 and scores[0] > 1024 * 127 * 16_256


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(4))
def test_vectors_that_differ_in_the_lowest_bits_of_the_query_are_told_apart(
    opened: Page, kernel: str, seed: int
) -> None:
    """Bounds are made of the upper bits only, and may leave out no vector for what the lower ones add."""
    random = np.random.default_rng(seed)
    # The upper bits are small and the lower as large as they can be: these decide, and add nearly all that they can.
    low = random.choice([-64, -63, 63], 64)
    query = 128 * random.integers(-3, 4, 64) + low
    like = np.sign(low) * random.integers(115, 126, 64)
    codes = np.clip(like + random.integers(-2, 3, (999, 64)), -127, 127).astype(np.int8)
    scales = random.choice(np.array([0.5, 0.5001, 0.50001], np.float32), 999)
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 0.37, 25)
    assert (positions, scores) == truth(codes, scales, query, 0.37, 25)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", range(4))
def test_vectors_that_differ_in_their_own_lowest_bits_are_told_apart(opened: Page, kernel: str, seed: int) -> None:
    """The upper halves of the codes are all the same, and may leave out no vector for what the lower ones add."""
    random = np.random.default_rng(seed)
    upper = random.integers(-8, 8, 100) * 16
    query = random.integers(-MOST, MOST + 1, 100, np.int16)
    # Half of them have nearly all that lower halves can add to a product.
    lower = np.where(random.random((999, 100)) < 0.02, random.integers(0, 16, (999, 100)), 15 * (query > 0))
    lower[::2] = random.integers(0, 16, (500, 100))
    codes = (upper + lower).astype(np.int8)
    scales = random.choice(np.array([0.5, 0.5001, 0.50001], np.float32), 999)
    among = random.permutation(999)[:501].tolist()
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 0.37, 25)
    assert (positions, scores) == truth(codes, scales, query, 0.37, 25)
    positions, scores, *_ = scan(opened, kernel, codes, scales, query, 0.37, 25, among=among)
    whole, values = truth(codes, scales, query, 0.37, 999)
    best = [(p, s) for p, s in zip(whole, values, strict=True) if p in among][:25]
    assert list(zip(positions, scores, strict=True)) == best


ROWS = """async ({codes, count, dim}) => {
    const { Scanner, GrowingCodes } = await import('/parts.js');
    const module = await WebAssembly.compileStreaming(fetch('/insitu/scan.plain.wasm'));
    const held = new GrowingCodes(new Scanner(module, 'plain'), dim);
    for (const shard of codes) held.append(Uint8Array.from(atob(shard), (c) => c.charCodeAt(0)));
    return Array.from({length: count}, (_, i) => {
        const {codes, scale} = held.scanner.row(held, i);
        return [[...codes], scale];
    });
}"""


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 31, 32, 33, 100, 128, 1024])
def test_what_was_appended_is_there_after_the_codes_have_grown(opened: Page, dim: int) -> None:
    random = np.random.default_rng(dim)
    sizes = [1, 7, 400, 2100 // dim + 1, 700]  # the third and the last do not fit into what was there
    codes = random.integers(-128, 128, (sum(sizes), dim), np.int8)
    scales = random.random(len(codes), np.float32)
    ends = np.cumsum([0, *sizes])
    shards = [pack(codes[a:b], scales[a:b]) for a, b in pairwise(ends)]
    found = opened.evaluate(ROWS, {"codes": shards, "count": len(codes), "dim": dim})
    assert found == [[row.tolist(), scale] for row, scale in zip(codes, scales.tolist(), strict=True)]


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
    query = random.integers(-MOST, MOST + 1, 128, np.int16)
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
    query = random.integers(-MOST, MOST + 1, 128, np.int16)
    positions, scores, median, least = scan(opened, kernel, codes, scales, query, 0.01, 50, repeat=20)
    assert (positions, scores) == truth(codes, scales, query, 0.01, 50)
    with capsys.disabled():
        print(f"\n  scan of 100,000 x 128, {kernel}: median {median:.2f} ms, least {least:.2f} ms")


QUERIES = """async ({vectors, dim}) => {
    const { fine, coarse } = await import('/parts.js');
    const bytes = Uint8Array.from(atob(vectors), (c) => c.charCodeAt(0));
    const floats = new Float32Array(bytes.buffer);
    const rows = Array.from({length: floats.length / dim}, (_, i) => floats.subarray(i * dim, (i + 1) * dim));
    return [...rows.map(fine), coarse(Int8Array.of(-127, 0, 5), 0.25)].map(({codes, scale}) => [[...codes], scale]);
}"""


def test_the_page_and_cpython_make_the_same_query_of_a_vector(opened: Page) -> None:
    rows = np.random.default_rng(7).normal(size=(40, 96)).astype("<f4")
    rows[1] = 0
    rows[2, :3] = [1, 0.5 / MOST, -0.5 / MOST]  # halves: rounded up in both
    *found, codes = opened.evaluate(QUERIES, {"vectors": base64.b64encode(rows.tobytes()).decode(), "dim": 96})
    block = NativeBlock(1, 96, 3)
    for row, (components, scale) in zip(rows, found, strict=True):
        block.array[0] = row
        wanted, unit = block.query(False)
        assert (wanted.tolist(), float(unit)) == (components, scale)
    block.full_array[0], block.full_scales[0] = [-127, 0, 5], 0.25
    wanted, unit = block.query(True)
    assert (wanted.tolist(), float(unit)) == tuple(codes)


SEVERAL = """async ({kernel, codes, count, dim, queries, k, long}) => {
    const { Scanner } = await import('/parts.js');
    const module = await WebAssembly.compileStreaming(fetch(`/insitu/scan.${kernel}.wasm`));
    const scanner = new Scanner(module, kernel);
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const held = scanner.reserve(count, dim);
    scanner.append(held, 0, bytes(codes));
    const all = new Int16Array(bytes(queries).buffer);
    const asked = Array.from({length: all.length / dim}, (_, i) => ({codes: all.subarray(i * dim, (i + 1) * dim), scale: 0.5}));
    const found = long ? await scanner.scanLong(asked, held, k) : scanner.scanAll(asked, held, k);
    return found.map(({positions, scores}) => [[...positions], [...scores]]);
}"""


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("long", [False, True])
def test_several_queries_in_one_pass_find_what_each_finds_alone(opened: Page, kernel: str, long: bool) -> None:
    random = np.random.default_rng(11)
    codes = random.integers(-127, 128, (3001, 100), np.int8)  # 112 bytes each: three blocks
    scales = random.choice(np.array([0.25, 0.5, 1.0], np.float32), 3001)
    queries = random.integers(-MOST, MOST + 1, (5, 100), np.int16)
    arguments = {"kernel": kernel, "codes": pack(codes, scales), "count": 3001, "dim": 100, "k": 20, "long": long}
    found = opened.evaluate(SEVERAL, arguments | {"queries": base64.b64encode(queries.tobytes()).decode()})
    assert [tuple(best) for best in found] == [truth(codes, scales, query, 0.5, 20) for query in queries]


# Four steps of scores that grow with the position, so that each step has better ones than those before.
LONG = """async ({abort}) => {
    const { Scanner, fine } = await import('/parts.js');
    const scanner = new Scanner(await WebAssembly.compileStreaming(fetch('/insitu/scan.plain.wasm')), 'plain');
    const [count, dim] = [1_000_000, 128];
    const held = scanner.reserve(count, dim);
    const shard = new Uint8Array(count * (dim + 4)).fill(1, 0, count * dim);
    new Float32Array(shard.buffer, count * dim).forEach((_, i, all) => (all[i] = 1 + i / count));
    scanner.append(held, 0, shard);
    let steps = 0;
    const counted = Object.create(held, {codes: {get: () => (steps++, held.codes)}});
    const stopping = new AbortController();
    let turns = 0;
    const other = setInterval(() => turns++ || (abort && stopping.abort()), 0);
    const query = fine(new Float32Array(dim).fill(1));
    try {
        const [found] = await scanner.scanLong([query], counted, 3, stopping.signal);
        return {found: [...found.positions], whole: [...scanner.scan(query, held, 3).positions], steps, turns};
    } catch ({code, name}) {
        const after = [...scanner.scan(query, held, 1).positions];
        return {code, name, steps, after};
    } finally {
        clearInterval(other);
    }
}"""


def test_a_long_scan_gives_way_to_other_work(opened: Page) -> None:
    done = opened.evaluate(LONG, {"abort": False})
    assert done["found"] == done["whole"] == [999_999, 999_998, 999_997]
    assert done["steps"] == 1 + 4 and done["turns"] > 0  # the ask is made, then four steps


def test_an_aborted_scan_ends_at_its_next_step(opened: Page) -> None:
    done = opened.evaluate(LONG, {"abort": True})
    assert (done["code"], done["name"], done["after"]) == ("aborted", "AbortError", [999_999])
    assert done["steps"] < 1 + 4
