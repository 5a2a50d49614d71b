"""How often the first wrong step of a solution is found: ProcessBench's measure, for every benchmark that has labels.

F1 is the harmonic mean of the accuracy on solutions with an error and on those without
(https://github.com/QwenLM/ProcessBench, code/run_eval_prm_rlhflow.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vllm_prm.evaluate.table import percent


@dataclass(frozen=True)
class FirstErrors:
    """Percentages over solutions; None where there is nothing to measure.

    accuracy: solutions whose first wrong step, or whose lack of one, is found. acc_error: of those with an error.
    acc_correct: of those without one. f1: the harmonic mean of the latter two.
    """

    num_error: int
    num_correct: int
    accuracy: float | None
    acc_error: float | None
    acc_correct: float | None
    f1: float | None

    @classmethod
    def of(cls, predictions: Iterable[tuple[int | None, bool]]) -> FirstErrors:
        """predictions: for each solution its first wrong step's index, None without one; and whether it is found."""
        with_error: list[bool] = []
        without_error: list[bool] = []
        for first_error, is_hit in predictions:
            (without_error if first_error is None else with_error).append(is_hit)
        error, correct, both = (
            percent(hits) if hits else None for hits in (with_error, without_error, with_error + without_error)
        )
        f1 = None if error is None or correct is None else harmonic_mean(error, correct)
        return cls(len(with_error), len(without_error), both, error, correct, f1)


def harmonic_mean(a: float, b: float) -> float:
    """0 if both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0
