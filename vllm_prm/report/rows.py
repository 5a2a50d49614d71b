"""What a report shows of one solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_prm.aggregate import aggregate
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.evaluate import Benchmark, bestofn, prmbench, processbench
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
        given = self.step_scores
        if given is not None and len(given) != len(self.steps):
            raise RequestError(
                f"a report row has {len(self.steps)} steps and {len(given)} scores; expected one score for each step"
            )

    @property
    def step_scores(self) -> tuple[float, ...] | None:
        """None if it could not be scored."""
        if isinstance(self.scores, PRMError):
            return None
        return tuple(self.scores.step_scores if isinstance(self.scores, StepScores) else self.scores)

    def aggregate(self, how: str) -> float | None:
        """None if it could not be scored."""
        return None if self.step_scores is None else aggregate(self.step_scores, how)

    def first_error(self, threshold: float) -> int | None:
        """Index of the first step below the threshold; None if there is none."""
        return next((i for i, score in enumerate(self.step_scores or ()) if score < threshold), None)


def benchmark_rows(benchmark: Benchmark, scores: Sequence[StepScores | PRMError | Sequence[float]]) -> list[ReportRow]:
    """One row per solution of `benchmark.solutions`, with what the benchmark knows of it.

    Raises RequestError if there is not one entry for each solution.
    """
    described = [one for name, split in benchmark.splits.items() for example in split for one in _known(name, example)]
    if len(described) != len(scores):
        raise RequestError(f"{len(scores)} scores for {len(described)} solutions; expected one for each")
    return [
        ReportRow(question, steps, given, name, wrong, tags)
        for (question, steps), given, (name, wrong, tags) in zip(benchmark.solutions, scores, described, strict=True)
    ]


_Known = tuple[str, list[int] | None, list[str]]


def _known(split: str, example: processbench.Example | prmbench.Example | bestofn.Example) -> list[_Known]:
    """Name, wrong steps and tags of each solution of an example."""
    if isinstance(example, processbench.Example):
        return [(example.id, [] if example.label < 0 else [example.label], [split])]
    if isinstance(example, prmbench.Example):
        return [(example.id, sorted(example.wrong), [example.classification])]
    return [
        (
            f"{example.id}, candidate {i}",
            None,
            ["right" if c.correct else "wrong", *([f"answer {c.answer}"] if c.answer is not None else [])],
        )
        for i, c in enumerate(example.candidates)
    ]
