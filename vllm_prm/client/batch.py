"""Batch: one call of score_batch, from its solutions to a result for each.

Knows packs, limits and errors; how a pack is asked is the client's. The invariant: every solution gets one result, and
an error only if it is its own, or if no request that holds it can be answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from vllm_prm.client.limit import Limit
from vllm_prm.client.packing import Solution, packed
from vllm_prm.client.transport import Refusal
from vllm_prm.errors import PRMError, UnreachableError
from vllm_prm.scores import StepScores

Result = StepScores | PRMError
Ask = Callable[[Sequence[Solution]], Awaitable[list[Result] | Refusal]]  # one request: a result for each solution


class Batch:
    """Solutions by their index, and their results.

    ask: asks for a pack, raises PRMError if that failed as a whole. progress: is told how many more have a result.
    """

    def __init__(
        self, solutions: Mapping[int, Solution], ask: Ask, limit: Limit, progress: Callable[[int], object]
    ) -> None:
        self.results: dict[int, Result] = {}
        self._solutions = solutions
        self._ask = ask
        self._limit = limit
        self._progress = progress
        self._unreachable: UnreachableError | None = None

    async def run(self, solutions_per_request: int, keep_questions_apart: bool) -> None:
        """Fill in `results`. If this is cancelled, so is what is under way."""
        async with asyncio.TaskGroup() as group:
            for pack in packed(self._solutions, solutions_per_request, keep_questions_apart):
                share = len(pack)
                await self._limit.take(share)
                task = group.create_task(self._score(pack))
                # Not in the task: one that is cancelled before its first line runs nothing.
                task.add_done_callback(lambda _, share=share: self._limit.give_back(share))  # type: ignore[misc]

    async def _score(self, pack: list[int]) -> None:
        response = await self._response(pack)
        if isinstance(response, Refusal) and len(pack) > 1:
            # One solution may be to blame, or the size of all together: the parts tell.
            middle = len(pack) // 2
            for part in (pack[:middle], pack[middle:]):
                await self._score(part)
            return
        results = [response.error] if isinstance(response, Refusal) else response
        self.results.update(zip(pack, results, strict=True))
        self._progress(len(pack))

    async def _response(self, pack: list[int]) -> Sequence[Result] | Refusal:
        if self._unreachable is not None:  # nor would it be reached for these
            return [self._unreachable] * len(pack)
        try:
            return await self._ask([self._solutions[i] for i in pack])
        except PRMError as error:
            if isinstance(error, UnreachableError):
                self._unreachable = error
            return [error] * len(pack)
