"""The tensors of a checkpoint, read one at a time: a model of 1.2 GB is exported in far less memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from insitu.errors import ModelCorrupt
from insitu.model.quantise import Float

# Rows of a large table read at a time: 48 MB of float32 at 768 components.
ROWS_AT_ONCE = 16_384


class Weights(Mapping[str, Float]):
    """A safetensors file as a mapping from names to float32 arrays; float16 and bfloat16 are widened.

    A prefix that all names share ("model.", "bert.") is left off. Raises `ModelCorrupt` if the file is none, is cut,
    or holds integers where weights should be.
    """

    def __init__(self, path: Path) -> None:
        import ml_dtypes  # noqa: F401  # teaches numpy the name bfloat16; comes with onnx
        from safetensors import SafetensorError, safe_open

        self._path = path
        self._errors = (SafetensorError, ValueError, TypeError, OSError)
        try:
            self._file = cast(Any, safe_open(path, framework="numpy"))
        except self._errors as error:
            raise ModelCorrupt(f"{path} is no safetensors file, or it is cut: {error}.") from error
        names: list[str] = list(self._file.keys())
        self._names = {_bare(name): name for name in names}

    def __getitem__(self, name: str) -> Float:
        try:
            return self._float(name, self._file.get_tensor(self._names[name]))
        except self._errors as error:
            raise ModelCorrupt(f"{self._path}: {name} cannot be read: {error}.") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(self._names[name]).get_shape())

    def blocks(self, name: str) -> Iterator[Float]:
        """The rows of a matrix, some at a time, in order."""
        part = self._file.get_slice(self._names[name])
        count = self.shape(name)[0]
        for start in range(0, count, ROWS_AT_ONCE):
            yield self._float(name, part[start : min(start + ROWS_AT_ONCE, count)])

    def rows(self, name: str, numbers: Iterable[int]) -> Float:
        """Some rows of a matrix, in the order of `numbers`."""
        part = self._file.get_slice(self._names[name])
        return self._float(name, np.concatenate([part[int(number) : int(number) + 1] for number in numbers]))

    def _float(self, name: str, found: NDArray[Any]) -> Float:
        if found.dtype.kind in "iub" and found.dtype.name != "bfloat16":
            raise ModelCorrupt(f"{self._path}: {name} holds {found.dtype}, not float32, float16 or bfloat16.")
        return found.astype(np.float32, copy=False)


def _bare(name: str) -> str:
    for prefix in ("model.", "bert."):
        name = name.removeprefix(prefix)
    return name
