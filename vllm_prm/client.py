"""PRMClient and AsyncPRMClient: score solutions on a server, with the results that PRM gives in this process.

The server sends logits, float32 values that JSON carries exactly, and the client makes step scores of them with the
code that PRM uses, by the recipe that the server names. One request per solution: they are independent, many are
under way at once, and what fails is repeated or reported by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.aggregate import check_aggregation
from vllm_prm.errors import PRMError, RecipeError, RequestError, UnreachableError
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.results import Ranking, StepScores
from vllm_prm.scorer import Item, OnError, Scorer, checked_items, settled
from vllm_prm.transport import Transport

# How far the server's step scores may be from those made of its logits: exp differs by a unit in the last place
# between machines (1e-16), another recipe by far more.
_SAME = 1e-9

_T = TypeVar("_T")


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
        """The recipe the server scores by; asked once. Raises PRMError, RecipeError if it cannot be read."""
        if self._recipe is None or (self._recipe.done() and (self._recipe.cancelled() or self._recipe.exception())):
            self._recipe = asyncio.create_task(self._ask_recipe())
        return await asyncio.shield(self._recipe)  # shared: one caller that gives up must not cancel the others'

    async def score(self, question: str, steps: Sequence[str]) -> StepScores:
        """Score one solution. Raises RequestError if it cannot be scored, PRMError if the server fails."""
        (item,) = checked_items([(question, steps)])
        if isinstance(item, PRMError):
            raise item
        return await self._score(*item)

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
        answer = await self._transport.ask("GET", "/v1/prm/recipe")
        try:
            return load_recipe(answer["recipe"])
        except (KeyError, TypeError, AttributeError) as error:
            raise PRMError(f"{self._transport.url}/v1/prm/recipe sent no recipe: {str(answer)[:200]}") from error
        except RecipeError as error:
            raise RecipeError(
                f"the recipe of {self._transport.url} is not one this version of vllm-prm reads: {error}. "
                "Install the server's version"
            ) from error

    async def _score(self, question: str, steps: Sequence[str]) -> StepScores:
        recipe = await self.recipe()
        body: dict[str, Any] = {"question": question, "steps": steps, "return": "logits"}
        if self.model is not None:
            body["model"] = self.model
        if self.priority:
            body["priority"] = self.priority
        answer = await self._transport.ask("POST", "/v1/prm/score", body)
        try:
            (entry,) = answer["data"]
            logits = np.asarray(entry["logits"], dtype=np.float64)
            told = entry["step_scores"]
            tokens, cached = entry["num_prompt_tokens"], entry["num_cached_tokens"]
        except (KeyError, TypeError, ValueError) as error:
            raise PRMError(f"{self._transport.url} sent no score: {str(answer)[:200]}") from error
        if len(told) != len(steps):
            raise PRMError(f"{self._transport.url} sent {len(told)} scores for {len(steps)} steps. Please report this")
        found = StepScores.from_logits(logits, recipe, tokens, cached)
        if not np.allclose(found.step_scores, told, rtol=0, atol=_SAME):
            raise PRMError(
                f"{self._transport.url} now scores by another recipe than {recipe.name!r}, which this client asked "
                "for first; the server was changed: make a new client"
            )
        return found


class PRMClient(Scorer):
    """A process reward model on a server; for the parameters see AsyncPRMClient, for the methods Scorer.

    Safe to use from several threads, in notebooks (where an event loop runs already) and after a fork: it runs an
    AsyncPRMClient in a thread of its own. An interrupt (Ctrl-C) takes back the requests that are under way.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        max_retries: int = 4,
        max_concurrency: int = 64,
        priority: int = 0,
    ) -> None:
        self._make = lambda: AsyncPRMClient(
            base_url,
            model,
            api_key,
            timeout=timeout,
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            priority=priority,
        )
        self._lock = threading.Lock()
        self._running: _Running | None = _Running(self._make())
        weakref.finalize(self, _Running.stop, self._running)

    @property
    def recipe(self) -> Recipe:
        """The recipe the server scores by; asked once. Raises PRMError if the server cannot be asked."""
        return self._run(lambda client: client.recipe())

    def score(self, question: str, steps: Sequence[str]) -> StepScores:
        return self._run(lambda client: client.score(question, steps))

    def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        listed = items if isinstance(items, str | Mapping) or not isinstance(items, Iterable) else list(items)
        return self._run(lambda client: client.score_batch(listed, on_error=on_error, progress=progress))

    def close(self) -> None:
        """Give the connections and the thread back. Calling it twice does no harm."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _run(self, ask: Callable[[AsyncPRMClient], Coroutine[Any, Any, _T]]) -> _T:
        with self._lock:
            if self._running is None:
                raise PRMError("this PRMClient is closed; make a new one")
            if self._running.pid != os.getpid():  # a fork has neither our thread nor a right to our connections
                self._running = _Running(self._make())
            # Under the lock, so that close() finds the task and takes it back.
            task = asyncio.run_coroutine_threadsafe(ask(self._running.client), self._running.loop)
        try:
            return task.result()
        except concurrent.futures.CancelledError:
            raise PRMError("this PRMClient was closed while it waited for an answer") from None
        except BaseException:
            task.cancel()  # does nothing if it is the task's own exception
            raise


class _Running:
    """An AsyncPRMClient and the thread that its event loop runs in."""

    def __init__(self, client: AsyncPRMClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._work, name="PRMClient", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        self.loop.run_forever()
        self.loop.run_until_complete(self._wind_up())
        self.loop.close()

    async def _wind_up(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.client.close()

    def stop(self) -> None:
        """Take back what is under way and end the thread. Does nothing the second time, or in a fork."""
        if self.pid != os.getpid():
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self.thread:  # a garbage collection may run this anywhere
            self.thread.join()
