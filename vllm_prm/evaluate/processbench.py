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

from vllm_prm.errors import RequestError
from vllm_prm.evaluate.fields import Line, Scores, check_scores
from vllm_prm.evaluate.table import mean, table, unscored_note
from vllm_prm.scores import FIRST_ERROR_THRESHOLD

FIELDS = ("problem", "steps", "label")


@dataclass(frozen=True)
class Example:
    """One solution. label: index of its first wrong step, from 0; -1: all steps are right."""

    id: str
    question: str
    steps: tuple[str, ...]
    label: int

    @classmethod
    def parse(cls, line: Line) -> Example:
        steps, label = line.texts("steps"), line.integer("label")
        if not -1 <= label < len(steps):
            raise line.fault("label", label, f"a step's index from 0 to {len(steps) - 1}, or -1")
        return cls(str(line.raw.get("id", line.where)), line.text("problem"), steps, label)

    @property
    def solutions(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ((self.question, self.steps),)


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
        return {"benchmark": "processbench", **asdict(self)}


def evaluate_processbench(
    splits: Mapping[str, Sequence[Example]],
    scores: Mapping[str, Sequence[Scores]],
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
    results = tuple(_split(name, examples, scores[name], threshold) for name, examples in splits.items())
    held_out = mean([split.f1 for split in results if split.name != tune_on]) if tune_on else None
    return ProcessBenchResult(results, mean([split.f1 for split in results]), held_out, threshold, tune_on)


def best_threshold(examples: Sequence[Example], scores: Sequence[Scores]) -> float:
    """The threshold with the highest F1 on these solutions; among equals the one closest to 0.5.

    With m_i the least score of steps 0..i, an error at step k is found by every threshold in (m_k, m_(k-1)], and a
    right solution is passed by every threshold up to its last m. So F1 only changes at these numbers, and counting how
    many lie at or above a threshold gives it without going through the solutions again.
    Raises RequestError if there is not both a solution with an error and one without, scored.
    """
    before, at, passed = [], [], []  # m_(k-1), m_k of solutions with an error; the last m of the others
    for example, given in zip(examples, scores, strict=True):
        if check_scores(given, len(example.steps), f"solution {example.id}") is None:
            continue
        least = [math.inf, *accumulate(given or (), min)]
        if example.label == -1:
            passed.append(least[-1])
        else:
            before.append(least[example.label])
            at.append(least[example.label + 1])
    if not passed or not before:
        raise RequestError(
            f"a threshold needs solutions with an error and without one to be chosen on; found {len(before)} and "
            f"{len(passed)} that were scored"
        )
    before, at, passed = sorted(before), sorted(at), sorted(passed)
    edges = sorted({edge for edge in (*before, *at, *passed) if edge < math.inf})

    def f1(threshold: float) -> float:
        found = bisect_left(at, threshold) - bisect_left(before, threshold)
        return _f1(found / len(before), (len(passed) - bisect_left(passed, threshold)) / len(passed))

    between = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
    return max((edges[0], *between, math.nextafter(edges[-1], math.inf)), key=lambda t: (f1(t), -abs(t - 0.5)))


def _split(name: str, examples: Sequence[Example], scores: Sequence[Scores], threshold: float) -> SplitResult:
    hits: dict[bool, list[bool]] = {True: [], False: []}  # by whether the solution has an error
    for example, given in zip(examples, scores, strict=True):
        steps = check_scores(given, len(example.steps), f"solution {example.id}")
        hits[example.label != -1].append(steps is not None and first_below(steps, threshold) == example.label)
    error, correct = (100 * sum(h) / len(h) if h else None for h in (hits[True], hits[False]))
    f1 = None if error is None or correct is None else _f1(error, correct)
    unscored = sum(given is None for given in scores)
    return SplitResult(name, len(hits[True]), len(hits[False]), error, correct, f1, unscored)


def first_below(scores: Sequence[float], threshold: float) -> int:
    """Index of the first score below the threshold, -1 if there is none."""
    return next((i for i, score in enumerate(scores) if score < threshold), -1)


def _f1(a: float, b: float) -> float:
    """Harmonic mean; 0 if both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0
