"""A solution of a benchmark, and the step scores that belong to it.

Knows no benchmark and no metric. A solution has one score for each step, or none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_prm.errors import PRMError, RequestError
from vllm_prm.scores import StepScores

SolutionScores = tuple[float, ...] | None  # the step scores of one solution; None: it could not be scored


@dataclass(frozen=True)
class Solution:
    """What is scored (question and steps), and what a report shows beside the scores.

    name: how a report calls the solution.
    wrong: indices, from 0, of the steps that the benchmark says are wrong; None: it does not say.
    tags: short remarks, such as the final answer.
    """

    question: str
    steps: tuple[str, ...]
    name: str
    wrong: Sequence[int] | None = None
    tags: Sequence[str] = ()


def plain_scores(result: StepScores | PRMError | Sequence[float] | None) -> SolutionScores:
    """The step scores alone, of what scoring a solution gave; None if that was an error, or nothing."""
    if result is None or isinstance(result, PRMError):
        return None
    return result.step_scores if isinstance(result, StepScores) else tuple(result)


def checked_scores(scores: SolutionScores, steps: Sequence[str], name: str) -> SolutionScores:
    """The scores, if there is one for each step, or none at all. name: of the solution, for the message.

    Raises RequestError if there are more scores than steps, or fewer.
    """
    if scores is not None and len(scores) != len(steps):
        raise RequestError(f"{name} has {len(steps)} steps and {len(scores)} scores; expected one score for each step")
    return scores
