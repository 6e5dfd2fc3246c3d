"""The face in a Pyodide of your own (JupyterLite, PyScript, marimo): as in CPython, but what opens is awaited.

The model, the tokenizer, the scan and IndexedDB are those of the web files, at the address that `configure` was told.
"""

from __future__ import annotations

import asyncio
from typing import Any

from insitu.embedder import Embedder
from insitu.errors import RuntimeUnavailable
from insitu.index.search import Index
from insitu.sync import Model, OpenedCollection, SiteIndex

_at: dict[str, str] = {}  # what `configure` was told
_opening: dict[tuple[str, str, int], asyncio.Future[Any]] = {}  # one runtime of each model, for all that use it


def configure(*, assets: str, models: str | None = None) -> None:
    """Say where the web files are: nothing is ever asked of another address.

    `assets`: URL of the folder that holds `notebook.js` (`insitu/` of an indexed site, a copy of `insitu_web.files()`
    or of the npm package's `files`), of this very release. `models`: URL of the folder with the exported models,
    `<name>-<variant>/` each; `models/` in `assets` if not given. Both may be relative to the page.
    """
    folder = assets.rstrip("/") + "/"
    _at.update(assets=folder, models=f"{folder}models/" if models is None else models.rstrip("/") + "/")


async def open_model(name: str = "minilm-l6", variant: str = "int8", *, threads: int = 0) -> Model:
    """Open a model: one below `models` of `configure`, or the URL of its folder or `model.lock.json`.

    Raises `RuntimeUnavailable` where the web files are not at `assets`, `FetchFailed`, `ModelCorrupt`.
    """
    return Model(await _embedder(name, variant, threads))


async def open_collection(
    name: str, *, model: str = "minilm-l6", variant: str = "int8", threads: int = 0, **options: Any
) -> OpenedCollection:
    """Open the collection `name` of this site in this browser, made if it is not there; pages have the same ones.

    `options`: `fields`, `dim` and others of `Collection.open`. Raises as that and `open_model`.
    """
    embedder = await _embedder(model, variant, threads)
    # The page's runtime has it, which `_embedder` opens; the seam itself knows of no stores.
    store = await embedder.runtime.open_store(name)  # type: ignore[attr-defined]
    return await OpenedCollection.open(embedder, store, **options)


async def open_index(url: str, *, threads: int = 0) -> SiteIndex:
    """Open the index whose entry (`index.json`) is at `url`, with its model. See `open_model` for errors."""
    from insitu.runtime.web import open_runtime

    runtime, entry = await open_runtime(_assets(), "", url, threads)
    return SiteIndex(await Index.open(runtime, runtime.lock, entry))


async def _embedder(model: str, variant: str, threads: int) -> Embedder:
    from insitu.runtime.web import open_runtime

    assets = _assets()
    url = model if "/" in model else f"{_at['models']}{model}-{variant}"
    url = url if url.endswith(".json") else url.rstrip("/") + "/model.lock.json"
    key = assets, url, threads
    if key not in _opening:
        _opening[key] = asyncio.ensure_future(open_runtime(assets, url, "", threads))
    try:
        runtime, _ = await asyncio.shield(_opening[key])
    except BaseException:
        if _opening[key].done():
            del _opening[key]
        raise
    return Embedder(runtime, runtime.lock)


def _assets() -> str:
    if not _at:
        raise RuntimeUnavailable(
            "Say first where insitu's web files are served: insitu.configure(assets=URL). See docs/python.md."
        )
    return _at["assets"]
