"""ProcessBench: is the first wrong step of a solution found? https://arxiv.org/abs/2412.06559

A solution's prediction is its first step that scores below a threshold, or -1 (all right) if none does; it counts if
it equals the label. F1 is the harmonic mean of the accuracy on solutions with an error and on those without
(https://github.com/QwenLM/ProcessBench, code/run_eval_prm_rlhflow.py); the benchmark's figure is the mean of its
splits' F1. The threshold is 0.5, or the best one on a split set apart for it, as EurusPRM chooses it on gsm8k.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from vllm_prm.aggregate import first_below
from vllm_prm.errors import RequestError
from vllm_prm.evaluate.benchmark import Format, Options
from vllm_prm.evaluate.firsterror import FirstErrors, harmonic_mean
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution, SolutionScores, checked_scores, labels_to_first_error
from vllm_prm.evaluate.table import mean, table, unscored_note
from vllm_prm.questions import Question
from vllm_prm.scores import FIRST_ERROR_THRESHOLD


@dataclass(frozen=True)
class ProcessBenchExample:
    """One solution. label: index of its first wrong step, from 0; -1: all steps are right."""

    id: str
    question: Question
    steps: tuple[str, ...]
    label: int

    @property
    def solutions(self) -> tuple[Solution, ...]:
        wrong = [] if self.first_error is None else [self.first_error]
        labels = labels_to_first_error(len(self.steps), self.first_error)
        return (Solution(self.question, self.steps, self.id, wrong, labels=labels),)

    @property
    def first_error(self) -> int | None:
        """Index of the first wrong step, from 0; None if there is none."""
        return None if self.label == -1 else self.label


@dataclass(frozen=True)
class SplitResult:
    """Percentages on one split; None where there is nothing to measure.

    acc_error: solutions with an error whose first wrong step is found. acc_correct: solutions without one in which
    none is found. unscored: solutions that could not be scored, which count as missed.
    """

    name: str
    num_error: int
    num_correct: int
    acc_error: float | None
    acc_correct: float | None
    f1: float | None
    unscored: int


@dataclass(frozen=True)
class ProcessBenchResult:
    """threshold: below it a step is wrong. tuned_on: the split it was chosen on, if any.

    f1: the mean over all splits, as published. f1_held_out: without the split that the threshold was chosen on; None
    if it was not chosen, or there is no other.
    """

    splits: tuple[SplitResult, ...]
    f1: float | None
    f1_held_out: float | None
    threshold: float
    tuned_on: str | None

    def table(self) -> str:
        rows: list[tuple[str | float | int | None, ...]] = [
            (s.name, s.num_error + s.num_correct, s.acc_error, s.acc_correct, s.f1) for s in self.splits
        ]
        if len(self.splits) > 1:
            rows.append(("mean", None, None, None, self.f1))
        if self.f1_held_out is not None:
            rows.append((f"mean without {self.tuned_on}", None, None, None, self.f1_held_out))
        return (
            f"ProcessBench, threshold {self.threshold:.4g}{f', chosen on {self.tuned_on}' if self.tuned_on else ''}\n"
            + table(("split", "solutions", "acc error", "acc correct", "F1"), rows)
            + unscored_note(sum(s.unscored for s in self.splits), "count as missed")
        )

    def to_dict(self) -> dict[str, Any]:
        return {"benchmark": ProcessBench.name, **asdict(self)}


class ProcessBench(Format[ProcessBenchExample]):
    """A solution and the index of its first wrong step on each line; a file for each subset."""

    name = "processbench"
    fields = ("problem", "steps", "label")
    tunes = True

    def parse(self, record: Record) -> ProcessBenchExample:
        steps, label = record.texts("steps"), record.integer("label")
        if not -1 <= label < len(steps):
            raise record.unexpected("label", label, f"a step's index from 0 to {len(steps) - 1}, or -1")
        return ProcessBenchExample(record.identifier("id"), record.question("problem"), steps, label)

    def evaluate(
        self,
        splits: Mapping[str, Sequence[ProcessBenchExample]],
        scores: Mapping[str, Sequence[Sequence[SolutionScores]]],
        options: Options,
    ) -> ProcessBenchResult:
        by_example = {name: [only for (only,) in split] for name, split in scores.items()}
        return evaluate_processbench(splits, by_example, options.threshold, options.tune_on)


def evaluate_processbench(
    splits: Mapping[str, Sequence[ProcessBenchExample]],
    scores: Mapping[str, Sequence[SolutionScores]],
    threshold: float = FIRST_ERROR_THRESHOLD,
    tune_on: str | None = None,
) -> ProcessBenchResult:
    """scores: per split and solution its step scores, or None if it could not be scored.

    tune_on: the split to choose the threshold on, in place of `threshold`. Raises RequestError for an unknown split,
    or scores that do not fit the steps.
    """
    if tune_on is not None:
        if tune_on not in splits:
            raise RequestError(f"no split {tune_on!r} to choose the threshold on; there are {', '.join(splits)}")
        threshold = best_threshold(splits[tune_on], scores[tune_on])
    results = tuple(_split_result(name, examples, scores[name], threshold) for name, examples in splits.items())
    held_out = mean([split.f1 for split in results if split.name != tune_on]) if tune_on else None
    return ProcessBenchResult(results, mean([split.f1 for split in results]), held_out, threshold, tune_on)


def best_threshold(examples: Sequence[ProcessBenchExample], scores: Sequence[SolutionScores]) -> float:
    """The threshold with the highest F1 on these solutions; among equals the one closest to 0.5.

    With m_i the least score of steps 0..i, an error at step k is found by every threshold in (m_k, m_(k-1)], and a
    right solution is passed by every threshold up to its last m. So F1 only changes at these numbers, and counting how
    many lie at or above a threshold gives it without going through the solutions again.
    Raises RequestError if there is not both a solution with an error and one without, scored.
    """
    before_error, at_error, at_end = [], [], []  # m_(k-1) and m_k of solutions with an error; the last m of the others
    for example, step_scores in zip(examples, scores, strict=True):
        if checked_scores(step_scores, example.steps, f"solution {example.id}") is None:
            continue
        least = [math.inf, *accumulate(step_scores or (), min)]  # m_(-1), which no step lowers, then m_0, m_1, ...
        if example.label == -1:
            at_end.append(least[-1])
        else:
            before_error.append(least[example.label])
            at_error.append(least[example.label + 1])
    if not at_end or not at_error:
        raise RequestError(
            f"a threshold needs solutions with an error and without one to be chosen on; found {len(at_error)} and "
            f"{len(at_end)} that were scored"
        )
    before_error, at_error, at_end = sorted(before_error), sorted(at_error), sorted(at_end)
    edges = sorted({edge for edge in (*before_error, *at_error, *at_end) if edge < math.inf})

    def f1(threshold: float) -> float:
        errors_found = bisect_left(at_error, threshold) - bisect_left(before_error, threshold)
        passed = len(at_end) - bisect_left(at_end, threshold)
        return harmonic_mean(errors_found / len(at_error), passed / len(at_end))

    between = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
    return max((edges[0], *between, math.nextafter(edges[-1], math.inf)), key=lambda t: (f1(t), -abs(t - 0.5)))


def _split_result(
    name: str, examples: Sequence[ProcessBenchExample], scores: Sequence[SolutionScores], threshold: float
) -> SplitResult:
    predictions = []
    for example, step_scores in zip(examples, scores, strict=True):
        is_scored = checked_scores(step_scores, example.steps, f"solution {example.id}") is not None
        is_hit = is_scored and first_below(step_scores or (), threshold) == example.first_error
        predictions.append((example.first_error, is_hit))
    found = FirstErrors.of(predictions)
    unscored = sum(step_scores is None for step_scores in scores)
    return SplitResult(name, found.num_error, found.num_correct, found.acc_error, found.acc_correct, found.f1, unscored)
