"""Planner: solutions that are there at the same time are tokenized by one call, in vLLM's threads for tokenizing.

All solutions of a request are there at once, and those of other requests that came while the threads were busy. The
tokenizer takes many texts in half the time that it takes them one by one in, and the way to a thread and back, a tenth
of a millisecond, is gone once per call. Each solution gets a Scoring or an error of its own, whoever it was tokenized
with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from vllm_prm.prompts import Scoring, SeenQuestion

Solution = tuple[str | SeenQuestion, Sequence[str]]
Plan = Callable[[list[Solution]], Sequence[Scoring | Exception]]  # per solution, in order, its Scoring or error

# Solutions in a call. Twice as many would take no less time each, and let the engine and other requests wait longer.
_AT_ONCE = 128


class Planner:
    """For one event loop. plan: in how many threads it runs at once, `num_threads` says; it must not mind."""

    def __init__(self, plan: Plan, executor: Executor, num_threads: int) -> None:
        self._plan = plan
        self._executor = executor
        self._num_threads = num_threads
        self._num_working = 0
        self._waiting: deque[tuple[Solution, asyncio.Future[Scoring]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks by weak references only

    async def scoring(self, question: str | SeenQuestion, steps: Sequence[str]) -> Scoring:
        """The solution's Scoring, or its error, raised."""
        future: asyncio.Future[Scoring] = asyncio.get_running_loop().create_future()
        self._waiting.append(((question, steps), future))
        if self._num_working < self._num_threads:
            self._num_working += 1
            worker = asyncio.create_task(self._work())  # begins when all that are ready to ask have asked
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await future

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                results = await self._planned([solution for solution, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():  # whoever asked has left
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._num_working -= 1

    def _next_batch(self) -> list[tuple[Solution, asyncio.Future[Scoring]]]:
        batch: list[tuple[Solution, asyncio.Future[Scoring]]] = []
        while self._waiting and len(batch) < _AT_ONCE:
            solution, future = self._waiting.popleft()
            if not future.done():
                batch.append((solution, future))
        return batch

    async def _planned(self, solutions: list[Solution]) -> Sequence[Scoring | Exception]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._plan, solutions)
        except Exception as error:  # noqa: BLE001 - that nobody foresaw: it is to reach the solution that it is about
            if len(solutions) == 1:
                return [error]
            return [result for one in solutions for result in await self._planned([one])]
