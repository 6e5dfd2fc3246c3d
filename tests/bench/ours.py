"""insitu in Chromium and insitu in CPython, both through their public faces."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Page

from insitu.embedder import Embedder, Embeddings
from insitu.runtime.native import NativeRuntime

T = TypeVar("T")


class PageSubject:
    """The built web files, opened in `page` (a blank one). `base` is their URL, `model` that of the lock."""

    def __init__(self, page: Page, *, bench: str, base: str, model: str, threads: int, engine: str = "insitu") -> None:
        self.page = page
        page.add_script_tag(url=f"{bench}/ours.js", type="module")
        page.wait_for_function("globalThis.bench !== undefined")
        options = {"base": base, "model": model, "threads": threads, "engine": engine}
        self.stats: dict[str, Any] = page.evaluate("options => bench.open(options)", options)
        device = self.stats["device"]
        if device["engine"] != engine:
            raise RuntimeError(f"The page runs on {device['engine']}, not on {engine}: {device['reason']}")
        if self.stats["threads"] != threads:
            raise RuntimeError(f"The page runs on {self.stats['threads']} threads, not on {threads}.")

    def each(self, texts: Sequence[str]) -> list[float]:
        """Milliseconds of each text alone."""
        times: list[float] = self.page.evaluate("texts => bench.each(texts)", list(texts))
        return times

    def bulk(self, texts: Sequence[str]) -> float:
        """Milliseconds of all texts in one call."""
        return float(self.page.evaluate("texts => bench.bulk(texts)", list(texts)))


class NativeSubject:
    """The same graph in CPython's onnxruntime. A thread of its own runs the loop: Playwright holds the main one."""

    def __init__(self, model_dir: Path, threads: int) -> None:
        self.runtime = NativeRuntime.open(model_dir, threads=threads)
        self.embedder = Embedder(self.runtime, self.runtime.lock)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def each(self, texts: Sequence[str]) -> list[float]:
        """Milliseconds of each text alone."""

        async def times() -> list[float]:
            taken = []
            for text in texts:
                start = time.perf_counter()
                await self.embedder.embed([text], task="query")
                taken.append((time.perf_counter() - start) * 1e3)
            return taken

        return self._run(times())

    def bulk(self, texts: Sequence[str]) -> float:
        """Milliseconds of all texts in one call."""
        start = time.perf_counter()
        self.embed(texts)
        return (time.perf_counter() - start) * 1e3

    def embed(self, texts: Sequence[str], *, dim: int | None = None, task: str = "document") -> Embeddings:
        return self._run(self.embedder.embed(texts, task=task, dim=dim))

    def tokens(self, text: str) -> int:
        """Tokens of `text`, special ones included."""
        lock = self.runtime.lock
        count = self._run(self.embedder.count_tokens([text]))[0]
        return count + len(lock.prefix_ids) + len(lock.suffix_ids)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
