"""The runtime of the page: onnxruntime-web, a JS tokenizer, the WASM scan kernel. The only module that imports pyodide.

`host` is the object of web/src/host.ts. Vectors stay in JS and WASM memory: a block or codes are handles here.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pyodide.ffi import JsException, create_proxy, to_js

from insitu import errors
from insitu.errors import InsituError
from insitu.model.lock import ModelLock
from insitu.runtime import Block, Codes, FileRef, TokenIds

_BY_CODE: Mapping[str, type[InsituError]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InsituError)
}


class WebBlock:
    """See `insitu.runtime.Block`. `js` is the block of web/src/block.ts."""

    def __init__(self, js: Any, count: int, dim: int) -> None:
        self.js = js
        self.count = count
        self.dim = dim

    def vectors(self) -> bytes:
        return bytes(self.js.vectorBytes().to_bytes())

    def codes(self) -> bytes:
        return bytes(self.js.codeBytes(False).to_bytes())

    def full_codes(self) -> bytes:
        return bytes(self.js.codeBytes(True).to_bytes())


class WebCodes:
    """See `insitu.runtime.Codes`. `js` holds addresses in the memory of the kernel (web/src/scan.ts)."""

    def __init__(self, js: Any, dim: int) -> None:
        self.js = js
        self.count: int = js.count
        self.dim = dim


class WebRuntime:
    """One model, opened in JS. See `insitu.runtime.Runtime`."""

    def __init__(self, host: Any, lock: ModelLock) -> None:
        self.lock = lock
        self._host = host

    async def tokenize(self, texts: Sequence[str], limit: int | None = None) -> TokenIds:
        with _named_errors():
            found = self._host.tokenize(to_js(list(texts)), limit or 0)
            ids = array("i", found.ids.to_bytes())
            return TokenIds(ids, tuple(found.lengths.to_py().tolist()))

    def new_block(self, count: int, dim: int) -> WebBlock:
        return WebBlock(self._host.newBlock(count, dim), count, dim)

    async def forward(self, tokens: TokenIds, block: Block, positions: Sequence[int]) -> None:
        assert isinstance(block, WebBlock)
        lengths, rows = array("i", tokens.lengths), array("i", positions)
        with _named_errors():
            await self._host.forward(to_js(tokens.ids), to_js(lengths), block.js, to_js(rows))

    async def read(self, ref: FileRef) -> bytes:
        with _named_errors():
            return bytes((await self._host.read(ref.file, ref.bytes, ref.sha256)).to_bytes())

    async def load_codes(self, refs: Sequence[FileRef], dim: int) -> WebCodes:
        with _named_errors():
            return WebCodes(await self._host.loadCodes(json.dumps([asdict(ref) for ref in refs]), dim), dim)

    async def scan(
        self, query: Block, codes: Codes, k: int, *, full: bool = False, among: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        assert isinstance(query, WebBlock) and isinstance(codes, WebCodes)
        chosen = () if among is None else (to_js(array("i", among)),)
        with _named_errors():
            positions, scores = self._host.scan(query.js, codes.js, k, full, *chosen)
            return list(zip(positions.to_py().tolist(), scores.to_py().tolist(), strict=True))


def transfer(value: object) -> Any:
    """`value` as JS has it: lists become arrays; handles their JS objects; anything else a proxy that JS destroys."""
    return to_js(value) if isinstance(value, (list, str)) else create_proxy(value)


@contextmanager
def _named_errors() -> Iterator[None]:
    """An error that JS raised on purpose is raised as the Python class of its code."""
    try:
        yield
    except JsException as error:
        kind = _BY_CODE.get(getattr(error, "code", ""))
        if kind is None:
            raise
        raise kind(error.message) from None
