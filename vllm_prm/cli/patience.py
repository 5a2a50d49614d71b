"""Waiting for a server that is away for a while, and telling that from a solution that cannot be scored."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from vllm_prm.cli.lines import Ask
from vllm_prm.errors import EngineError, PRMError, RequestError, ScorerError, UnreachableError

LONGEST_PAUSE_S = 15.0  # a server that is back is noticed within that
TRIES = 3  # of a solution on a server that answers others, before its error is taken to be its own


class GivenUp(EngineError):
    """The server did not score anything for as long as was allowed."""


class Patient:
    """score(asks) -> results, each a StepScores or the PRMError in its place.

    A RequestError is an answer. Any other error may be the server's: it is dropping connections while it restarts,
    its engine died, it was started without our routes. So those solutions, and no others, are asked again with
    growing pauses, until the server has scored nothing for `patience_s` seconds; then GivenUp is raised. A solution
    whose error stays while the server scores others keeps that error.
    """

    def __init__(self, score: Callable[[list[Ask]], Sequence[Any]], patience_s: float) -> None:
        self._score = score
        self._patience_s = patience_s
        self._known_good: Ask | None = None

    def __call__(self, asks: list[Ask]) -> list[Any]:
        results: list[Any] = [None] * len(asks)
        tries = [0] * len(asks)
        waiting = list(range(len(asks)))
        silent_since, pause = time.monotonic(), 1.0
        while waiting:
            failed = self._ask(asks, waiting, results)
            if not failed:
                break
            # The client has tried several times before it says so: no need to ask again whether the server is there.
            unreachable = any(isinstance(results[i], UnreachableError) for i in failed)
            if not unreachable and self._answers():  # then the server is not to blame, or was away for a moment only
                silent_since, pause = time.monotonic(), 1.0
                for i in failed:
                    tries[i] += 1
                waiting = [i for i in failed if tries[i] < TRIES]
                continue
            if len(failed) < len(waiting):
                silent_since = time.monotonic()
            waiting, error = failed, results[failed[0]]
            silent = time.monotonic() - silent_since
            if silent >= self._patience_s:
                raise GivenUp(f"the server has scored nothing for {silent:.0f} s: {error}") from error
            pause = min(pause, self._patience_s - silent)
            say(f"{error} Trying again in {pause:.0f} s, giving up after {self._patience_s - silent:.0f} s.")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        return results

    def _ask(self, asks: list[Ask], which: list[int], results: list[Any]) -> list[int]:
        """Fill in `results` of `which`; those of them that failed, not by their own fault as far as is known."""
        found = self._tried([asks[i] for i in which])
        for i, result in zip(which, found, strict=True):
            results[i] = result
            if not isinstance(result, PRMError):
                self._known_good = asks[i]
        return [i for i in which if isinstance(results[i], ScorerError)]

    def _tried(self, asks: list[Ask]) -> Sequence[Any]:
        try:
            return self._score(asks)
        except RequestError:
            raise
        except PRMError as error:  # the client asks for the recipe first, which fails as a whole
            return [error] * len(asks)

    def _answers(self) -> bool:
        """True if the server scores what it scored before."""
        if self._known_good is None:
            return False
        return not isinstance(self._tried([self._known_good])[0], PRMError)


def say(message: str) -> None:
    """A line on stderr that does not break a progress bar."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    tqdm.write(f"vllm-prm: {message}", file=sys.stderr)
