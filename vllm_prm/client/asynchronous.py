"""AsyncPRMClient: score solutions on a server, with the results that PRM gives in this process.

A server with our plugin is asked by our own route (score_route.py), another one that completes text step by step
(completions/). Solutions of a batch share requests, which saves most of what HTTP costs; each gets the result, or the
error, that it would get by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.aggregate import check_aggregation
from vllm_prm.client.batch import Batch, Result
from vllm_prm.client.completions import CompletionsRoute
from vllm_prm.client.limit import Limit
from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST, Solution
from vllm_prm.client.score_route import ScoreRoute
from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.inputs import checked_steps
from vllm_prm.questions import Question, checked_question
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.reward import AsyncRewardFunction
from vllm_prm.scorer import Item, OnError, checked_items, settled
from vllm_prm.scores import Ranking, StepScores


class Route(Protocol):
    """How a server is asked."""

    async def recipe(self) -> Recipe: ...

    async def ask(self, solutions: Sequence[Solution]) -> list[Result] | Refusal: ...

    def forget(self) -> None: ...


class AsyncPRMClient:
    """A process reward model on a server, for asyncio.

    base_url: the server's address; a /v1 at its end does no harm. model: a served name, or a LoRA adapter's; None: the
    served model. api_key: None takes VLLM_API_KEY from the environment. timeout: seconds to wait for the answer to one
    request, with all its solutions. max_retries: after HTTP 429, 502, 503 and 504 and dropped connections, with
    growing pauses or the server's Retry-After. priority: lower runs earlier, on a server that schedules by priority.
    max_concurrency: solutions under way at once, over all calls. It is what the server has to do, and so what a
    request may have to wait for, however the solutions are packed.
    solutions_per_request: at most so many of a batch's solutions share a request; long ones share it with fewer. 1
    gives each its own. keep_questions_apart: no request holds solutions of two questions. Behind a router that sends
    all requests of a question (header `X-Session-ID`) to one server, every prefix is then found where it was computed
    (docs/scale.md); on one server it only makes more requests.
    recipe: for a server that completes text and does not have our plugin (plain vLLM, or another server with
    OpenAI's `/v1/completions` and logprobs): a Recipe, a name, a JSON file or inline JSON. None: the server has our
    plugin, and says what it scores by. tokenizer: of such a server's model, as transformers reads it from a folder or
    name, or the object itself; None: the folder or name that the server gives for its model, or else vLLM's /tokenize.

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
        keep_questions_apart: bool = False,
        priority: int = 0,
        recipe: Recipe | str | None = None,
        tokenizer: Any = None,
    ) -> None:
        if max_retries < 0 or max_concurrency < 1 or solutions_per_request < 1 or not timeout > 0:
            raise RequestError(
                f"max_retries is {max_retries}, max_concurrency {max_concurrency}, solutions_per_request "
                f"{solutions_per_request}, timeout {timeout}; expected 0 or more, 1 or more, 1 or more, and more than 0"
            )
        self._solutions_per_request = min(solutions_per_request, max_concurrency)
        self._keep_questions_apart = keep_questions_apart
        self._limit = Limit(max_concurrency)
        self._transport = Transport(
            base_url, api_key, timeout=timeout, max_retries=max_retries, max_concurrency=max_concurrency
        )
        self._route: Route = (
            ScoreRoute(self._transport, model, priority)
            if recipe is None
            else CompletionsRoute(
                self._transport,
                _loaded(recipe),
                model,
                tokenizer,
                priority,
            )
        )

    async def recipe(self) -> Recipe:
        """The recipe that is scored by; the server is asked once. Raises PRMError if it cannot be asked by one."""
        return await self._route.recipe()

    def forget(self) -> None:
        """Forget which steps were scored, because the server's model has other weights now.

        Only a client that was made with a recipe remembers any; a server with our plugin knows by itself.
        """
        self._route.forget()

    async def score(self, question: Question, steps: Sequence[str]) -> StepScores:
        """Score one solution. Raises RequestError if it cannot be scored, EngineError if the server fails."""
        solution = checked_question(question), checked_steps(steps)
        await self._limit.take(1)
        try:
            response = await self._route.ask([solution])
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
            batch = Batch(solutions, self._route.ask, self._limit, bar.update)
            await batch.run(self._solutions_per_request, self._keep_questions_apart)
        results = [item if isinstance(item, PRMError) else batch.results[i] for i, item in enumerate(checked)]
        return settled(results, on_error)

    async def rank(
        self, question: Question, candidates: Sequence[Sequence[str]], aggregate: str | None = None
    ) -> Ranking:
        """Score several solutions of one question and put them in order, best first; as `Scorer.rank`."""
        if aggregate is not None:
            check_aggregation(aggregate)
        if isinstance(candidates, str) or not candidates:
            raise RequestError(f"candidates is {candidates!r}; expected a list of solutions, each a list of steps")
        results = await self.score_batch([(question, steps) for steps in candidates], progress=False)
        return Ranking.of([result for result in results if isinstance(result, StepScores)], aggregate)

    def reward_fn(
        self, aggregate: str | None = None, split: str | Callable[[str], Sequence[str]] | None = None
    ) -> AsyncRewardFunction:
        """A reward function for trainers that await (TRL's `reward_funcs`); the parameters are those of
        `Scorer.reward_fn`."""
        return AsyncRewardFunction(self, aggregate, split)

    async def close(self) -> None:
        """Give the connections back. Calling it twice does no harm."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _loaded(recipe: Recipe | str) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
