"""PRMClient: an AsyncPRMClient for code that does not await."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from vllm_prm.client.asynchronous import AsyncPRMClient
from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST
from vllm_prm.errors import EngineError, PRMError
from vllm_prm.questions import Question
from vllm_prm.scorer import Item, OnError, Scorer

if TYPE_CHECKING:
    from vllm_prm.recipes import Recipe
    from vllm_prm.scores import StepScores

_T = TypeVar("_T")


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
        solutions_per_request: int = SOLUTIONS_PER_REQUEST,
        keep_questions_apart: bool = False,
        priority: int = 0,
        recipe: Recipe | str | None = None,
        tokenizer: Any = None,
    ) -> None:
        self._make = lambda: AsyncPRMClient(
            base_url,
            model,
            api_key,
            timeout=timeout,
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            solutions_per_request=solutions_per_request,
            keep_questions_apart=keep_questions_apart,
            priority=priority,
            recipe=recipe,
            tokenizer=tokenizer,
        )
        self._lock = threading.Lock()
        self._running: _Running | None = _Running(self._make())
        weakref.finalize(self, _Running.stop, self._running)

    @property
    def recipe(self) -> Recipe:
        """The recipe the server scores by; asked once. Raises PRMError if the server cannot be asked."""
        return self._run(lambda client: client.recipe())

    def score(self, question: Question, steps: Sequence[str]) -> StepScores:
        return self._run(lambda client: client.score(question, steps))

    def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        listed = items if isinstance(items, str | Mapping) or not isinstance(items, Iterable) else list(items)
        return self._run(lambda client: client.score_batch(listed, on_error=on_error, progress=progress))

    def forget(self) -> None:
        """As AsyncPRMClient.forget: the server's model has other weights now."""
        with self._lock:
            if self._running is not None:
                self._running.client.forget()

    def close(self) -> None:
        """Give the connections and the thread back. Calling it twice does no harm."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    async def awaited(self, ask: Callable[[AsyncPRMClient], Coroutine[Any, Any, _T]]) -> _T:
        """What `ask` gets from the AsyncPRMClient within, awaited in whatever event loop the caller runs.

        An AsyncPRMClient of one's own lives in one loop; code that is run in a new loop for each batch has none to
        keep it in.
        """
        task = self._started(ask)
        try:
            return await asyncio.wrap_future(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():  # not the caller that gave up
                raise _closed_meanwhile() from None
            raise

    def _run(self, ask: Callable[[AsyncPRMClient], Coroutine[Any, Any, _T]]) -> _T:
        task = self._started(ask)
        try:
            return task.result()
        except concurrent.futures.CancelledError:
            raise _closed_meanwhile() from None
        except BaseException:
            task.cancel()  # does nothing if it is the task's own exception
            raise

    def _started(self, ask: Callable[[AsyncPRMClient], Coroutine[Any, Any, _T]]) -> concurrent.futures.Future[_T]:
        with self._lock:
            if self._running is None:
                raise EngineError("this PRMClient is closed; make a new one")
            if self._running.pid != os.getpid():  # a fork has neither our thread nor a right to our connections
                self._running = _Running(self._make())
            # Under the lock, so that close() finds the task and takes it back.
            return asyncio.run_coroutine_threadsafe(ask(self._running.client), self._running.loop)


def _closed_meanwhile() -> EngineError:
    return EngineError("this PRMClient was closed while it waited for an answer")


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
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self.client.close()

    def stop(self) -> None:
        """Take back what is under way and end the thread. Does nothing the second time, or in a fork."""
        if self.pid != os.getpid():
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self.thread:  # a garbage collection may run this anywhere
            self.thread.join()
