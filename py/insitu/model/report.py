"""Which matrix products a variant harms most: each is rounded alone, all others left in float32."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insitu.embedder import Embedder
from insitu.errors import VariantUnsupported
from insitu.model import cache
from insitu.model.export import export
from insitu.model.feedback import Float64
from insitu.model.graph import Graph
from insitu.model.manifest import load
from insitu.model.quantise import Float
from insitu.model.variants import Linear, linear_of, plain
from insitu.model.verify import golden_cases
from insitu.runtime.native import NativeRuntime

# Longer golden texts say little more, and would take most of the time. In characters.
LONGEST = 2_000


@dataclass(frozen=True)
class Loss:
    """What rounding one product costs: 1 - cosine to the vectors of a graph that rounds none, mean and worst."""

    product: str
    mean: float
    worst: float


def report(
    name: str,
    variant: str,
    *,
    source: Path | None = None,
    texts: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Loss]:
    """The loss of each product, the dearest first, over `texts` (the golden ones if none are given).

    Each product is an export of its own, one after another: some 20 minutes for EmbeddingGemma, and 1.2 GB of disk.
    Raises `VariantUnsupported`, and what `export` raises.
    """
    manifest = load(name)
    if manifest.family != "gemma" or variant == "fp32":
        raise VariantUnsupported(f"{manifest.name} {variant}: there is a report of the gemma family, int8, q8 and q4.")
    texts = texts or [case["text"] for case in golden_cases(manifest) if len(case["text"]) <= LONGEST]
    products: list[str] = []
    moments: dict[str, Float64] = {}
    rounded = linear_of(variant)

    def only(chosen: str | None) -> Linear:
        def linear(graph: Graph, x: str, weight: Float, product: str) -> str:
            if chosen is None:
                products.append(product)
            return (rounded if product == chosen else plain)(graph, x, weight, product)

        return linear

    with cache.staging(cache.models_dir()) as folder:

        def vectors(chosen: str | None) -> Float:
            out = export(name, variant, source=source, out=folder / "one", linear=only(chosen), moments=moments)
            runtime = NativeRuntime.open(out)
            block = asyncio.run(Embedder(runtime, runtime.lock).embed(texts, task="none", dim=manifest.full_dim)).block
            return np.frombuffer(block.vectors(), "<f4").reshape(len(texts), -1)

        exact = vectors(None)
        losses = []
        for product in list(products):
            lost = 1 - (vectors(product) * exact).sum(axis=1)
            losses.append(Loss(product, float(lost.mean()), float(lost.max())))
            if on_progress is not None:
                on_progress(len(losses), len(products))
    return sorted(losses, key=lambda loss: -loss.mean)
