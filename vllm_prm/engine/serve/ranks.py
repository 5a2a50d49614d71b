"""Which of a server's engines a solution goes to, where there are several (`--data-parallel-size N`).

vLLM gives a request to the engine that has least to do, so every engine computes what the solutions of a question
share. Here they go to the question's own engine, its home. A hash names it, not a table: vLLM starts a front end per
engine, and one knows nothing of the questions of another.

A home that has a whole batch more to do than another engine is passed over, in the question's own order of the
engines, so that one question with many solutions keeps all engines busy. What is to do is guessed: all tokens under
way, but those that the question's last answer from that engine found in its cache.

A request that names a rank itself, by the header that vLLM reads for generation, goes there.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from vllm_prm.questions import question_digest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from vllm.config import VllmConfig

    from vllm_prm.engine.serve.pooled import Answer
    from vllm_prm.prompts import Prompt
    from vllm_prm.questions import Question

HEADER = "X-data-parallel-rank"  # vLLM's own

_REMEMBERED = 16_384  # pairs of question and engine, in 3 MB; a front end answers some 1,000 solutions a second
_DIGITS = 9  # of a rank: Python refuses to read numbers of thousands

_chosen: ContextVar[int | None] = ContextVar("data_parallel_rank", default=None)


class Engines:
    """Those that one front end sends to, and what each of them has to do for it. Lives on the event loop."""

    def __init__(self, vllm_config: VllmConfig) -> None:
        self._config = vllm_config
        self._to_do: Counter[int] = Counter()  # tokens, by rank
        self._cached: LRUCache[tuple[int, int], int] = LRUCache(_REMEMBERED)  # by question and rank: tokens

    @property
    def count(self) -> int:
        """How many ranks a request may name, as vLLM checks it."""
        parallel: Any = self._config.parallel_config
        count: int = parallel.data_parallel_size_local if parallel.local_engines_only else parallel.data_parallel_size
        return count

    async def ask(
        self, question: Question, prompts: Sequence[Prompt], answers: Awaitable[list[Answer]]
    ) -> list[Answer]:
        """Await the answers to a solution's prompts, which are sent to one engine while they are awaited."""
        if self.count == 1 or _chosen.get() is not None:
            return await answers
        key = question_digest(question)
        num_tokens = sum(len(prompt.token_ids) for prompt in prompts)
        rank, to_do = self._place(key, num_tokens)
        self._to_do[rank] += to_do
        token = _chosen.set(rank)
        try:
            given = await answers
        finally:
            _chosen.reset(token)
            self._to_do[rank] -= to_do
        self._cached[key, rank] = sum(num_cached_tokens for _, num_cached_tokens in given)
        return given

    def _place(self, key: int, num_tokens: int) -> tuple[int, int]:
        """The rank for a solution, and the tokens that its engine will have to compute."""
        count = self.count
        ranks = [(key + turn) % count for turn in range(count)]
        added = {rank: self._left(num_tokens, self._cached.get((key, rank), 0)) for rank in ranks}
        least = min(self._to_do[rank] + added[rank] for rank in ranks)
        home = next(rank for rank in ranks if self._to_do[rank] + added[rank] <= least + self._batch)
        return home, added[home]

    @staticmethod
    def _left(num_tokens: int, num_cached_before: int) -> int:
        """A prompt no longer than what was cached does not go on from it: nothing is known of such a one."""
        return num_tokens - num_cached_before if num_cached_before < num_tokens else num_tokens

    @property
    def _batch(self) -> float:
        """Tokens of a batch, this front end's share of it: the others send as much."""
        most: int = self._config.scheduler_config.max_num_batched_tokens
        return most / max(1, self._config.parallel_config._api_process_count)


def follow_ranks(engine: Any) -> None:
    """Let requests to vLLM's AsyncLLM go to the rank that is chosen where they are made.

    Its `add_request` takes a rank, but `encode`, which calls it for pooling, has no way to name one (vLLM 0.29 to
    0.33). Remove when it has, and hand the rank to `encode`.
    """
    add = engine.add_request

    @functools.wraps(add)
    async def add_request(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("data_parallel_rank") is None:
            kwargs["data_parallel_rank"] = _chosen.get()
        return await add(*args, **kwargs)

    engine.add_request = add_request


class RankHeader:
    """ASGI middleware: HEADER for every path, as vLLM has it for generation alone. What is no number is ignored."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values = dict(scope["headers"]) if scope["type"] == "http" else {}
        rank = values.get(HEADER.lower().encode(), b"")
        token = _chosen.set(int(rank) if rank.isdigit() and len(rank) <= _DIGITS else None)
        try:
            await self.app(scope, receive, send)
        finally:
            _chosen.reset(token)
