"""What a report shows of one solution, as its user gives it. Knows no HTML.

A row has one score for each step, or the error that its solution met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm_prm.aggregate import aggregate, first_below
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.evaluate import Benchmark
from vllm_prm.evaluate.solutions import Solution, StepLabels, checked_scores, plain_scores
from vllm_prm.questions import Question, question_text
from vllm_prm.scores import StepScores


@dataclass(frozen=True)
class ReportRow:
    """One solution.

    question: a text, or content parts with images.
    scores: its StepScores, plain step scores, or the error that it met.
    name: how it is called on the page; "" numbers it.
    wrong: indices (from 0) of steps that are known to be wrong; None: not known.
    tags: short remarks shown beside its name, such as its final answer.
    labels: for each step whether it is known to be right, None where it is not known; None: nothing is known.
    Raises RequestError if scores or labels do not fit the steps.
    """

    question: Question
    steps: Sequence[str]
    scores: StepScores | PRMError | Sequence[float]
    name: str = ""
    wrong: Sequence[int] | None = None
    tags: Sequence[str] = ()
    labels: StepLabels | None = None

    def __post_init__(self) -> None:
        checked_scores(self.step_scores, self.steps, "a report row")
        if self.labels is not None and len(self.labels) != len(self.steps):
            raise RequestError(
                f"a report row has {len(self.steps)} steps and {len(self.labels)} labels; expected one for each step"
            )

    @property
    def question_text(self) -> str:
        return question_text(self.question)

    @property
    def step_scores(self) -> tuple[float, ...] | None:
        """None if it could not be scored."""
        return plain_scores(self.scores)

    def aggregate(self, aggregation: str) -> float | None:
        """None if it could not be scored."""
        return None if self.step_scores is None else aggregate(self.step_scores, aggregation)

    def first_error(self, threshold: float) -> int | None:
        """Index of the first step below the threshold; None if there is none."""
        return first_below(self.step_scores or (), threshold)


def benchmark_rows(
    benchmark: Benchmark[Any], scores: Sequence[StepScores | PRMError | Sequence[float]]
) -> list[ReportRow]:
    """One row per solution of `benchmark.solutions`, with what the benchmark knows of it.

    A solution without tags of its own is tagged with its split. Raises RequestError if there is not one entry for each
    solution.
    """
    solutions = [
        (split, solution)
        for split, examples in benchmark.splits.items()
        for example in examples
        for solution in example.solutions
    ]
    if len(solutions) != len(scores):
        raise RequestError(f"{len(scores)} scores for {len(solutions)} solutions; expected one for each")
    return [
        _row(solution, result, solution.tags or [split])
        for (split, solution), result in zip(solutions, scores, strict=True)
    ]


def _row(solution: Solution, result: StepScores | PRMError | Sequence[float], tags: Sequence[str]) -> ReportRow:
    return ReportRow(solution.question, solution.steps, result, solution.name, solution.wrong, tags, solution.labels)
