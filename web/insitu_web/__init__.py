"""The built web files of insitu, as a package: `insitu index` copies them beside an index."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"


def files() -> Path:
    """The folder with the web files. Raises `FileNotFoundError` in a checkout where they are not built yet."""
    packaged = Path(__file__).parent / "files"
    built = Path(__file__).parents[1] / "dist"
    for folder in (packaged, built):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{built} does not exist. Build the web files: python3 build.py web")
