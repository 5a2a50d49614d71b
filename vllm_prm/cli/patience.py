"""Waiting for a server that is away for a while, and telling that from a solution that cannot be scored.

Knows errors and results, neither lines nor HTTP. The invariant: no result is lost by waiting; only solutions that
failed are scored again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vllm_prm.cli.answers import Score
from vllm_prm.cli.progress import say
from vllm_prm.errors import EngineError, PRMError, ScorerError, UnreachableError
from vllm_prm.lines import Solution

FIRST_PAUSE_S = 1.0  # then 2, 4, 8: the client has paused itself before it says that a server is away
LONGEST_PAUSE_S = 15.0  # a server that is back is noticed within that
TRIES = 3  # of a solution on a server that scores others, before its error is taken to be its own


class GivenUp(EngineError):
    """The server did not score anything for as long as was allowed."""


class Patient:
    """A Score that waits: solutions -> results, each a StepScores or the PRMError in its place.

    A RequestError is a result. Any other error may be the server's: it is dropping connections while it restarts,
    its engine died, it was started without our routes. So those solutions, and no others, are scored again with
    growing pauses, until the server has scored nothing for `patience_s` seconds; then GivenUp is raised. A solution
    whose error stays while the server scores others keeps that error.
    """

    def __init__(self, score: Score, patience_s: float) -> None:
        self._score = score
        self._patience_s = patience_s
        self._scored_before: Solution | None = None

    def __call__(self, solutions: list[Solution]) -> list[Any]:
        results: list[Any] = [None] * len(solutions)
        tries = [0] * len(solutions)
        waiting = list(range(len(solutions)))
        silent_since, pause = time.monotonic(), FIRST_PAUSE_S
        while waiting:
            failed = self._score_again(solutions, waiting, results)
            if not failed:
                break
            # The client has tried several times before it says so: no need to ask again whether the server is there.
            unreachable = any(isinstance(results[i], UnreachableError) for i in failed)
            if not unreachable and self._is_scoring():  # so the server is not to blame, or was away for a moment only
                silent_since, pause = time.monotonic(), FIRST_PAUSE_S
                for i in failed:
                    tries[i] += 1
                waiting = [i for i in failed if tries[i] < TRIES]
                continue
            if len(failed) < len(waiting):
                silent_since = time.monotonic()
            waiting = failed
            pause = self._wait(results[failed[0]], silent_since, pause)
        return results

    def _wait(self, error: ScorerError, silent_since: float, pause: float) -> float:
        """Sleep `pause` seconds, or less if patience ends before; the next pause. Raises GivenUp if it has ended."""
        silent = time.monotonic() - silent_since
        if silent >= self._patience_s:
            raise GivenUp(f"the server has scored nothing for {silent:.0f} s: {error}") from error
        pause = min(pause, self._patience_s - silent)
        say(f"{error} Trying again in {pause:.0f} s, giving up after {self._patience_s - silent:.0f} s.")
        time.sleep(pause)
        return min(2 * pause, LONGEST_PAUSE_S)

    def _score_again(self, solutions: list[Solution], indices: list[int], results: list[Any]) -> list[int]:
        """Fill in `results` at `indices`; those that failed, not by their own fault as far as is known."""
        scored = self._results([solutions[i] for i in indices])
        for i, result in zip(indices, scored, strict=True):
            results[i] = result
            if not isinstance(result, PRMError):
                self._scored_before = solutions[i]
        return [i for i in indices if isinstance(results[i], ScorerError)]

    def _results(self, solutions: list[Solution]) -> Sequence[Any]:
        try:
            return self._score(solutions)
        except ScorerError as error:  # the client asks for the recipe first, which fails as a whole
            return [error] * len(solutions)

    def _is_scoring(self) -> bool:
        """True if the server scores what it scored before."""
        if self._scored_before is None:
            return False
        return not isinstance(self._results([self._scored_before])[0], PRMError)
