"""AsyncPRMClient: score solutions on a server, with the results that PRM gives in this process.

The server sends logits, the base64 of float32 values, and the client makes step scores of them with the
code that PRM uses, by the recipe that the server names. One request per solution: they are independent, many are
under way at once, and what fails is repeated or reported by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from pydantic import ValidationError
from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.aggregate import check_aggregation
from vllm_prm.client.transport import Transport
from vllm_prm.errors import EngineError, PRMError, RecipeError, RequestError, UnreachableError
from vllm_prm.inputs import checked_steps, checked_text
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.scorer import Item, OnError, checked_items, settled
from vllm_prm.scores import Ranking, StepScores
from vllm_prm.wire import RecipeResponse, Score, ScoreRequest, ScoreResponse, explain, unpacked

# How far the server's step scores may be from those made of its logits: exp differs by a unit in the last place
# between machines (1e-16), another recipe by far more.
_SAME = 1e-9


class AsyncPRMClient:
    """A process reward model on a server, for asyncio.

    base_url: the server's address; a /v1 at its end does no harm. model: a served name, or a LoRA adapter's; None: the
    served model. api_key: None takes VLLM_API_KEY from the environment. timeout: seconds to wait for one answer.
    max_retries: after HTTP 429, 502, 503 and 504 and dropped connections, with growing pauses or the server's
    Retry-After. max_concurrency: requests under way at once. priority: lower runs earlier, on a server that
    schedules by priority.

    Use it within one event loop, and close it there: `async with AsyncPRMClient(url) as prm: ...`.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,  # OpenAI's clients' default
        max_retries: int = 4,
        max_concurrency: int = 64,
        priority: int = 0,
    ) -> None:
        if max_retries < 0 or max_concurrency < 1 or not timeout > 0:
            raise RequestError(
                f"max_retries is {max_retries}, max_concurrency {max_concurrency}, timeout {timeout}; "
                "expected 0 or more, 1 or more, and more than 0"
            )
        self.model = model
        self.priority = priority
        self.max_concurrency = max_concurrency
        self._transport = Transport(
            base_url, api_key, timeout=timeout, max_retries=max_retries, max_concurrency=max_concurrency
        )
        self._recipe: asyncio.Task[Recipe] | None = None

    async def recipe(self) -> Recipe:
        """The recipe the server scores by; asked once. Raises EngineError, RecipeError if it cannot be read."""
        if self._recipe is None or (self._recipe.done() and (self._recipe.cancelled() or self._recipe.exception())):
            self._recipe = asyncio.create_task(self._ask_recipe())
        return await asyncio.shield(self._recipe)  # shared: one caller that gives up must not cancel the others'

    async def score(self, question: str, steps: Sequence[str]) -> StepScores:
        """Score one solution. Raises RequestError if it cannot be scored, EngineError if the server fails."""
        return await self._score(checked_text(question, "question"), checked_steps(steps))

    async def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        """Score many solutions; as `Scorer.score_batch`.

        A server that cannot be reached after all retries is not asked for the rest of the batch: those items get
        the same error.
        """
        checked = checked_items(items, on_error)
        results: list[StepScores | PRMError | None] = [None] * len(checked)
        if any(not isinstance(item, PRMError) for item in checked):
            await self.recipe()  # a wrong address or key is told at once, not once per item
        waiting = iter(enumerate(checked))
        gone: PRMError | None = None

        async def work() -> None:
            nonlocal gone
            for i, item in waiting:  # shared by all workers: each takes the next
                try:
                    results[i] = item if isinstance(item, PRMError) else gone or await self._score(*item)
                except PRMError as error:
                    results[i] = error
                    if isinstance(error, UnreachableError):
                        gone = error
                bar.update()

        with tqdm(total=len(checked), desc="Scoring", unit="solution", disable=not progress) as bar:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.max_concurrency, len(checked))):
                    group.create_task(work())
        return settled([result for result in results if result is not None], on_error)

    async def rank(self, question: str, candidates: Sequence[Sequence[str]], aggregate: str | None = None) -> Ranking:
        """Score several solutions of one question and put them in order, best first; as `Scorer.rank`."""
        if aggregate is not None:
            check_aggregation(aggregate)
        if isinstance(candidates, str) or not candidates:
            raise RequestError(f"candidates is {candidates!r}; expected a list of solutions, each a list of steps")
        results = await self.score_batch([(question, steps) for steps in candidates], progress=False)
        return Ranking.of([result for result in results if isinstance(result, StepScores)], aggregate)

    async def close(self) -> None:
        """Give the connections back. Calling it twice does no harm."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask_recipe(self) -> Recipe:
        response = await self._transport.ask("GET", "/v1/prm/recipe", RecipeResponse)
        try:
            return load_recipe(response.recipe)
        except RecipeError as error:
            raise RecipeError(
                f"the recipe of {self._transport.url} is not one this version of vllm-prm reads: {error}. "
                "Install the server's version"
            ) from error

    async def _score(self, question: str, steps: list[str]) -> StepScores:
        recipe = await self.recipe()
        response = await self._transport.ask("POST", "/v1/prm/score", ScoreResponse, self._request(question, steps))
        entries = [entry for entry in response.data if isinstance(entry, Score)]
        if len(entries) != 1 or entries[0].logits is None:
            raise EngineError(f"{self._transport.url} sent no logits for the one solution it was asked about")
        return self._checked(entries[0], len(steps), recipe)

    def _request(self, question: str, steps: list[str]) -> ScoreRequest:
        fields = {"model": self.model, "question": question, "steps": steps, "priority": self.priority}
        try:
            return ScoreRequest.model_validate({**fields, "return": "logits", "encoding_format": "base64"})
        except ValidationError as error:
            raise RequestError(explain(error.errors())[0]) from error

    def _checked(self, entry: Score, num_steps: int, recipe: Recipe) -> StepScores:
        """The scores by our own recipe. Raises EngineError if there are too few, or the server's own are others."""
        rows = unpacked(entry.logits or [], len(recipe.weights))
        if not len(entry.step_scores) == len(rows) == num_steps:
            raise EngineError(
                f"{self._transport.url} sent {len(entry.step_scores)} scores and {len(rows)} rows of logits for "
                f"{num_steps} steps. Please report this"
            )
        scores = StepScores.from_logits(rows, recipe, entry.num_prompt_tokens, entry.num_cached_tokens)
        if not np.allclose(scores.step_scores, entry.step_scores, rtol=0, atol=_SAME):
            raise EngineError(
                f"{self._transport.url} now scores by another recipe than {recipe.name!r}, which this client asked "
                "for first; the server was changed: make a new client"
            )
        return scores
