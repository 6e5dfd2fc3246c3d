"""Search by meaning where the text is: in the page, in a folder, offline.

    import insitu

    model = insitu.open_model("minilm-l6")
    vectors = model.encode(["a text", "another"], dim=128)
    hits = insitu.open_index("site/insitu").search("how do I join two paths?")

Importing this does no work and needs nothing but the standard library: each name is loaded when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.collection.collection import Collection
    from insitu.collection.search import Found
    from insitu.embedder import Embedder, Embeddings
    from insitu.index.search import Hit, Index
    from insitu.notebook import configure
    from insitu.site import Report, index_site
    from insitu.sync import (
        FolderCollection,
        Model,
        OpenedCollection,
        SiteIndex,
        open_collection,
        open_index,
        open_model,
    )

__version__ = "0.1.0"

__all__ = [
    "Collection",
    "Embedder",
    "Embeddings",
    "FolderCollection",
    "Found",
    "Hit",
    "Index",
    "InsituError",
    "Model",
    "OpenedCollection",
    "Report",
    "SiteIndex",
    "__version__",
    "configure",
    "index_site",
    "open_collection",
    "open_index",
    "open_model",
]

# In a Pyodide of the user's own the model comes from the page, and what opens is awaited.
_OPENS = "insitu.notebook" if sys.platform == "emscripten" else "insitu.sync"
_HOMES = {
    "Collection": "insitu.collection.collection",
    "Embedder": "insitu.embedder",
    "Embeddings": "insitu.embedder",
    "FolderCollection": "insitu.sync",
    "Found": "insitu.collection.search",
    "Hit": "insitu.index.search",
    "Index": "insitu.index.search",
    "Model": "insitu.sync",
    "OpenedCollection": "insitu.sync",
    "Report": "insitu.site",
    "SiteIndex": "insitu.sync",
    "configure": "insitu.notebook",
    "index_site": "insitu.site",
    "open_collection": _OPENS,
    "open_index": _OPENS,
    "open_model": _OPENS,
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'insitu' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
