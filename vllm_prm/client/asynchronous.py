"""AsyncPRMClient: score solutions on a server, with the results that PRM gives in this process.

The server sends logits, the base64 of float32 values, and the client makes step scores of them with the code that PRM
uses, by the recipe that the server names. Solutions of a batch share requests, which saves most of what HTTP costs;
each gets the result, or the error, that it would get by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError
from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.aggregate import check_aggregation
from vllm_prm.client.batch import Batch, Result
from vllm_prm.client.limit import Limit
from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST, Solution
from vllm_prm.client.transport import Refusal, Transport, error_of
from vllm_prm.errors import EngineError, PRMError, RecipeError, RequestError
from vllm_prm.inputs import checked_steps, checked_text
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.scorer import Item, OnError, checked_items, settled
from vllm_prm.scores import Ranking, StepScores
from vllm_prm.wire import Failure, RecipeResponse, Score, ScoreRequest, ScoreResponse, explain, unpacked

_SCORE_PATH = "/v1/prm/score"

# How far the server's step scores may be from those made of its logits: exp differs by a unit in the last place
# between machines (1e-16), another recipe by far more.
_SAME = 1e-9
_SHOWN = 20  # indices in a message about wrong ones: a few more than most requests have


class AsyncPRMClient:
    """A process reward model on a server, for asyncio.

    base_url: the server's address; a /v1 at its end does no harm. model: a served name, or a LoRA adapter's; None: the
    served model. api_key: None takes VLLM_API_KEY from the environment. timeout: seconds to wait for the answer to one
    request, with all its solutions. max_retries: after HTTP 429, 502, 503 and 504 and dropped connections, with
    growing pauses or the server's Retry-After. priority: lower runs earlier, on a server that schedules by priority.
    max_concurrency: solutions under way at once, over all calls. It is what the server has to do, and so what a
    request may have to wait for, however the solutions are packed.
    solutions_per_request: at most so many of a batch's solutions share a request; long ones share it with fewer. 1
    gives each its own.

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
        solutions_per_request: int = SOLUTIONS_PER_REQUEST,
        priority: int = 0,
    ) -> None:
        if max_retries < 0 or max_concurrency < 1 or solutions_per_request < 1 or not timeout > 0:
            raise RequestError(
                f"max_retries is {max_retries}, max_concurrency {max_concurrency}, solutions_per_request "
                f"{solutions_per_request}, timeout {timeout}; expected 0 or more, 1 or more, 1 or more, and more than 0"
            )
        self.model = model
        self.priority = priority
        self._solutions_per_request = min(solutions_per_request, max_concurrency)
        self._limit = Limit(max_concurrency)
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
        solution = checked_text(question, "question"), checked_steps(steps)
        await self._limit.take(1)
        try:
            response = await self._ask([solution])
        finally:
            self._limit.give_back(1)
        result = response.error if isinstance(response, Refusal) else response[0]
        if isinstance(result, PRMError):
            raise result
        return result

    async def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        """Score many solutions; as `Scorer.score_batch`.

        A request that is refused as a whole (HTTP 400, 413, 422), or that the server breaks over (500), is sent again
        in parts, until only the solutions at fault are left with the error. A server that cannot be reached after all
        retries is not asked for the rest of the batch: those items get the same error.
        """
        checked = checked_items(items, on_error)
        solutions = {i: item for i, item in enumerate(checked) if not isinstance(item, PRMError)}
        if solutions:
            await self.recipe()  # a wrong address or key is told at once, not once per item
        with tqdm(total=len(checked), desc="Scoring", unit="solution", disable=not progress) as bar:
            bar.update(len(checked) - len(solutions))
            batch = Batch(solutions, self._ask, self._limit, bar.update)
            await batch.run(self._solutions_per_request)
        results = [item if isinstance(item, PRMError) else batch.results[i] for i, item in enumerate(checked)]
        return settled(results, on_error)

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

    async def _ask(self, solutions: Sequence[Solution]) -> list[Result] | Refusal:
        """One request: a result for each solution. Raises PRMError if the request failed as a whole."""
        recipe = await self.recipe()
        request = self._request(solutions)
        response = await self._transport.ask_or_refusal("POST", _SCORE_PATH, ScoreResponse, request)
        if isinstance(response, Refusal):
            return response
        entries = sorted(response.data, key=lambda entry: entry.index)
        if (indices := [entry.index for entry in entries]) != list(range(len(solutions))):
            raise EngineError(
                f"{self._transport.url} answered with {len(indices)} entries, whose indices are {indices[:_SHOWN]}; "
                f"expected {len(solutions)}, each index from 0 once. Please report this"
            )
        return [self._result(entry, len(steps), recipe) for entry, (_, steps) in zip(entries, solutions, strict=True)]

    def _request(self, solutions: Sequence[Solution]) -> ScoreRequest:
        fields: dict[str, Any] = {"model": self.model, "priority": self.priority, "return": "logits"}
        fields["encoding_format"] = "base64"
        question, steps = solutions[0]
        if len(solutions) == 1:
            fields |= {"question": question, "steps": steps}
        elif all(other == question for other, _ in solutions):
            fields |= {"question": question, "candidates": [steps for _, steps in solutions]}
        else:
            fields["inputs"] = [{"question": question, "steps": steps} for question, steps in solutions]
        try:
            return ScoreRequest.model_validate(fields)
        except ValidationError as error:
            raise RequestError(explain(error.errors())[0]) from error

    def _result(self, entry: Score | Failure, num_steps: int, recipe: Recipe) -> Result:
        if isinstance(entry, Failure):
            return error_of(entry.error.code, entry.error.message, self._transport.url + _SCORE_PATH)
        try:
            return self._checked(entry, num_steps, recipe)
        except PRMError as error:
            return error

    def _checked(self, entry: Score, num_steps: int, recipe: Recipe) -> StepScores:
        """The scores by our own recipe. Raises EngineError if there are too few, or the server's own are others."""
        rows = unpacked(entry.logits or [], len(recipe.weights))
        if not len(entry.step_scores) == len(rows) == num_steps:
            raise EngineError(
                f"{self._transport.url} sent {len(entry.step_scores)} scores and {len(rows)} rows of logits for "
                f"{num_steps} steps. Please report this"
            )
        scores = StepScores.from_logits(rows, recipe, entry.num_prompt_tokens, entry.num_cached_tokens)
        pairs = zip(scores.step_scores, entry.step_scores, strict=True)
        if not all(abs(score - servers) <= _SAME for score, servers in pairs):  # NaN is not
            raise EngineError(
                f"{self._transport.url} now scores by another recipe than {recipe.name!r}, which this client asked "
                "for first; the server was changed: make a new client"
            )
        return scores
