"""Search by meaning where the text is: in the page, in a folder, offline.

    import insitu

    model = insitu.open_model("minilm-l6")
    vectors = model.encode(["a text", "another"], dim=128)
    hits = insitu.open_index("site/insitu").search("how do I join two paths?")

Importing this does no work and needs nothing but the standard library: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.collection.collection import Collection, Found
    from insitu.embedder import Embedder, Embeddings
    from insitu.index.search import Hit, Index
    from insitu.site import Report, index_site
    from insitu.sync import FolderCollection, Model, SiteIndex, open_collection, open_index, open_model

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
    "Report",
    "SiteIndex",
    "__version__",
    "index_site",
    "open_collection",
    "open_index",
    "open_model",
]

_HOMES = {
    "Collection": "insitu.collection.collection",
    "Embedder": "insitu.embedder",
    "Embeddings": "insitu.embedder",
    "FolderCollection": "insitu.sync",
    "Found": "insitu.collection.collection",
    "Hit": "insitu.index.search",
    "Index": "insitu.index.search",
    "Model": "insitu.sync",
    "Report": "insitu.site",
    "SiteIndex": "insitu.sync",
    "index_site": "insitu.site",
    "open_collection": "insitu.sync",
    "open_index": "insitu.sync",
    "open_model": "insitu.sync",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'insitu' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
