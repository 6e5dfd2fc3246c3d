"""An exported model against its golden file: the same token ids, and how close the vectors are to float32."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.embedder import Embedder
from insitu.errors import ModelNotFound
from insitu.model.manifest import Manifest
from insitu.model.rotation import read_rotation

Float = NDArray[np.float32]

# The least mean cosine to float32 that an export must reach, by variant. See DESIGN.md, "The graph".
LEAST_MEAN_COSINE: Mapping[str, float] = {"fp32": 0.99999, "q8": 0.999, "int8": 0.995, "q4": 0.95}
# The same for a published graph, rounded by somebody else: one scale for all activations of a batch gives 0.989.
LEAST_PUBLISHED: Mapping[str, float] = {"fp32": 0.9999, "q8": 0.95, "q4": 0.95}


@dataclass(frozen=True)
class Verification:
    """`cosines` maps a size to (mean, worst) cosine to the float32 vector of that size; `wrong_ids` names the cases
    whose token ids differ; `similarities` maps a document of the model card to (its cosine with the card's question,
    what the card says); `passed` is ids equal and the mean at full size at least `LEAST_MEAN_COSINE` or, of a
    published graph, `LEAST_PUBLISHED`."""

    model: str
    variant: str
    cases: int
    wrong_ids: tuple[str, ...]
    cosines: Mapping[int, tuple[float, float]]
    worst_case: str
    similarities: Mapping[str, tuple[float, float]]
    passed: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def golden_cases(manifest: Manifest, *files: str) -> list[dict[str, Any]]:
    """The golden cases of `files`: name, text, token_ids, and `vector`, the float32 vector, rotated (full_dim,).

    `golden.json` is in the wheel too; `golden-more.json` only in the repository.
    """
    files = files or ("golden.json", "golden-more.json")
    paths = [path for file in files if (path := manifest.golden_folder / file).is_file()]
    if not paths:
        raise ModelNotFound(
            f"No golden vectors are known of {manifest.name} (golden.json), so there is nothing to verify against."
        )
    cases: list[dict[str, Any]] = []
    for path in paths:
        cases += _read(path)["cases"]
    rotation = read_rotation(manifest)
    for case in cases:
        vector = np.frombuffer(base64.b64decode(case["embedding"]), "<f2").astype(np.float32)
        case["vector"] = vector if rotation is None else rotation @ vector
    return cases


def _read(path: Traversable) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _similarities(manifest: Manifest, vectors: Mapping[str, Float]) -> dict[str, tuple[float, float]]:
    """What the model card prints, and what these vectors give. Empty where the card's cases are not at hand."""
    path = manifest.golden_folder / "golden-more.json"
    card = _read(path).get("similarities") if path.is_file() else None
    if card is None:
        return {}
    pairs = zip(card["documents"], card["published"], strict=True)
    return {name: (float(vectors[card["query"]] @ vectors[name]), published) for name, published in pairs}


async def verify(manifest: Manifest, embedder: Embedder) -> Verification:
    """Embed each golden text alone and compare."""
    cases = golden_cases(manifest)
    lock = embedder.lock
    wrong = []
    vectors: dict[str, Float] = {}
    cosines: dict[int, list[float]] = {dim: [] for dim in lock.dims}
    for case in cases:
        ids = (await embedder.token_ids([case["text"]], task="none"))[0]
        if list(ids) != case["token_ids"]:
            wrong.append(case["name"])
        for dim in lock.dims:
            block = (await embedder.embed([case["text"]], task="none", dim=dim)).block
            vector = np.frombuffer(block.vectors(), "<f4")
            if dim == lock.dims[0]:
                vectors[case["name"]] = vector
            golden: Float = case["vector"][:dim]
            cosines[dim].append(float(vector @ golden / np.linalg.norm(golden)))
    full = cosines[lock.dims[0]]
    least = (LEAST_MEAN_COSINE if lock.rows else LEAST_PUBLISHED).get(lock.variant, 0.0)
    return Verification(
        model=lock.name,
        variant=lock.variant,
        cases=len(cases),
        wrong_ids=tuple(wrong),
        cosines={dim: (float(np.mean(values)), min(values)) for dim, values in cosines.items()},
        worst_case=cases[int(np.argmin(full))]["name"],
        similarities=_similarities(manifest, vectors),
        passed=not wrong and float(np.mean(full)) >= least,
    )
