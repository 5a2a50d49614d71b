"""A solution of a benchmark, and the step scores that belong to it.

Knows no benchmark and no metric. A solution has one score for each step, or none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_prm.errors import PRMError, RequestError
from vllm_prm.questions import Question
from vllm_prm.scores import StepScores

SolutionScores = tuple[float, ...] | None  # the step scores of one solution; None: it could not be scored

StepLabels = Sequence[bool | None]  # for each step whether it is right; None: not known


@dataclass(frozen=True)
class Solution:
    """What is scored (question and steps), and what a report shows beside the scores.

    question: a text, or content parts; an image that lies in a file is named by its path (`pictures.with_content`).

    name: how a report calls the solution.
    wrong: indices, from 0, of the steps that the benchmark says are wrong; None: it does not say.
    tags: short remarks, such as the final answer.
    labels: for each step whether it is right, or None where the benchmark does not say; None: it says nothing.
    """

    question: Question
    steps: tuple[str, ...]
    name: str
    wrong: Sequence[int] | None = None
    tags: Sequence[str] = ()
    labels: StepLabels | None = None


def labels_to_first_error(steps: int, first_error: int | None) -> tuple[bool | None, ...]:
    """What is known of `steps` steps if only the first wrong one is named: nothing of those after it.

    first_error: its index from 0; None if there is none.
    """
    return tuple(
        True if first_error is None or i < first_error else (False if i == first_error else None) for i in range(steps)
    )


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
