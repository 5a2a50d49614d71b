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
from vllm_prm.evaluate.solutions import checked_scores, plain_scores
from vllm_prm.scores import StepScores


@dataclass(frozen=True)
class ReportRow:
    """One solution.

    scores: its StepScores, plain step scores, or the error that it met.
    name: how it is called on the page; "" numbers it.
    wrong: indices (from 0) of steps that are known to be wrong; None: not known.
    tags: short remarks shown beside its name, such as its final answer.
    Raises RequestError if scores do not fit the steps.
    """

    question: str
    steps: Sequence[str]
    scores: StepScores | PRMError | Sequence[float]
    name: str = ""
    wrong: Sequence[int] | None = None
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        checked_scores(self.step_scores, self.steps, "a report row")

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
        ReportRow(solution.question, solution.steps, result, solution.name, solution.wrong, solution.tags or [split])
        for (split, solution), result in zip(solutions, scores, strict=True)
    ]
