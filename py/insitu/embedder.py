"""Texts to vectors: prompt, token ids, batches by length, the model."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

from insitu.errors import InvalidArgument
from insitu.model.lock import ModelLock
from insitu.runtime import Batching, Block, Runtime, TokenIds
from insitu.text.clean import well_formed

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all) after each batch."""


@dataclass(frozen=True)
class Embeddings:
    """The vectors of some texts, in their order.

    `block` holds them (`block.vectors()`: count x dim float32). `truncated[i]` tells that text i was longer than
    the model reads and stands for its first tokens; `tokens[i]` is how many tokens were read, special ones included.
    """

    block: Block
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...]

    def __len__(self) -> int:
        return self.block.count


class Embedder:
    """One opened model. Async; safe for concurrent calls (the runtime runs one batch at a time)."""

    def __init__(self, runtime: Runtime, lock: ModelLock) -> None:
        self.runtime = runtime
        self.lock = lock
        self.auto: tuple[int, str] | None = None

    async def choose_dim(self, room: int | None = None) -> tuple[int, str]:
        """What `dim="auto"` stands for, and why; kept as `auto`. `room`: bytes that are free for vectors."""
        self.auto = self.lock.choose_dim(await self.runtime.device(), room)
        return self.auto

    async def embed(
        self,
        texts: Sequence[str],
        *,
        task: str = "document",
        titles: Sequence[str] | None = None,
        dim: int | str | None = None,
        on_progress: Progress | None = None,
    ) -> Embeddings:
        """Embed `texts` with the prompt of `task` ('query', 'document', 'none', or another of the model's).

        `dim`: 1 to the model's full size (`DimUnsupported` otherwise), or 'auto'; the model's default if None.
        `titles`, one for each text, are used where the prompt has a place for one. An empty text is embedded as the
        prompt and the special tokens alone. Too long a text is cut at the model's maximum; see `Embeddings.truncated`.
        A vector does not depend on the texts beside it.
        """
        if isinstance(texts, str):
            raise InvalidArgument("embed() takes a list of texts; for one text write [text].")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidArgument(f"text {position} is {type(text).__name__}, not str.")
        size = self.lock.check_dim((await self.choose_dim())[0] if dim == "auto" else dim)
        if titles is not None and len(titles) != len(texts):
            raise InvalidArgument(f"{len(titles)} titles were given for {len(texts)} texts.")
        prompts = [self.lock.prompt(task, title) for title in titles or [""]]
        block = self.runtime.new_block(len(texts), size)
        if not texts:
            return Embeddings(block, (), ())
        framed, truncated = await self._ids(texts, prompts)
        done = 0
        for batch in plan_batches([len(ids) for ids in framed], self.runtime.batching):
            await self.runtime.forward(_join([framed[i] for i in batch]), block, batch)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(texts))
            if done < len(texts):
                await asyncio.sleep(0)  # a cancelled task ends here, between two batches
        return Embeddings(block, truncated, tuple(len(ids) for ids in framed))

    async def token_ids(self, texts: Sequence[str], *, task: str = "document") -> list[array[int]]:
        """The ids that the model reads for each text: prompt, special tokens and cut included."""
        return (await self._ids(texts, [self.lock.prompt(task)]))[0]

    async def count_tokens(self, texts: Sequence[str]) -> tuple[int, ...]:
        """How many tokens each text has, without prompt and special tokens."""
        return (await self.runtime.tokenize([well_formed(text) for text in texts])).lengths

    async def _ids(self, texts: Sequence[str], prompts: Sequence[str]) -> tuple[list[array[int]], tuple[bool, ...]]:
        """Ids with special tokens, cut at the model's maximum, and which were cut. One prompt, or one for each."""
        whole = [well_formed(prompt + text) for prompt, text in zip(cycle(prompts), texts, strict=False)]
        prefix, suffix = array("i", self.lock.prefix_ids), array("i", self.lock.suffix_ids)
        room = self.lock.max_tokens - len(prefix) - len(suffix)
        # One more than there is room for tells that a text is cut.
        parts = (await self.runtime.tokenize(whole, room + 1)).split()
        return [prefix + ids[:room] + suffix for ids in parts], tuple(len(ids) > room for ids in parts)


def plan_batches(lengths: Sequence[int], batching: Batching) -> list[list[int]]:
    """Positions grouped by like length, longest first: little is padding, and threads get like texts.

    Each position occurs once. A batch keeps to `batching` (a single longer text has a batch of its own).
    See DESIGN.md, "Batches".
    """
    batches: list[list[int]] = []
    longest = total = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[position]
        total += length
        if not batches:
            fits = False
        elif batching.padding is None:
            fits = total <= batching.tokens
        else:
            fits = longest - length <= batching.padding and (len(batches[-1]) + 1) * longest <= batching.tokens
        if fits:
            batches[-1].append(position)
        else:
            batches.append([position])
            longest = total = length
    return batches


def _join(parts: Sequence[array[int]]) -> TokenIds:
    joined = array("i")
    for part in parts:
        joined.extend(part)
    return TokenIds(joined, tuple(len(part) for part in parts))
