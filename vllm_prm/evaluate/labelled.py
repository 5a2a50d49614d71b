"""Labelled steps: what every data set measures that says of each step whether it is right.

    PRM800K, Math-Shepherd, TRL's stepwise supervision, VisualProcessBench: a format each, which reads a line into a
    LabelledExample

Steps: accuracy, macro F1, ROC AUC and calibration over all steps that have a label (`stepmetrics`). Solutions: is the
first wrong step found (`firsterror`)? Its prediction is the first labelled step that scores below the threshold. Steps
without a label are scored, for they stand before others, and count nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_prm.evaluate.benchmark import Format, Options
from vllm_prm.evaluate.firsterror import FirstErrors
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution, SolutionScores, StepLabels, checked_scores
from vllm_prm.evaluate.stepmetrics import BINS, Bin, accuracy, calibration_error, macro_f1, reliability, roc_auc
from vllm_prm.evaluate.table import percent, table
from vllm_prm.questions import Question
from vllm_prm.recipes.types import Neutral


@dataclass(frozen=True)
class LabelledExample:
    """One line. path: its solution; None if no step of it has a label.

    alternatives: other last steps, each behind the steps before it, where only the last one has a label.
    """

    path: Solution | None
    alternatives: tuple[Solution, ...] = ()

    @property
    def solutions(self) -> tuple[Solution, ...]:
        return (*(() if self.path is None else (self.path,)), *self.alternatives)


@dataclass(frozen=True)
class LabelledSplit:
    """Figures of one split, in percent; None where there is nothing to measure.

    solutions: those with labels; left_out: lines without; unscored: solutions and alternatives that could not be
    scored, whose steps are left out of the figures about steps, while the first error counts as missed.
    steps: those with a label and a score; good_steps: how many percent of them are right.
    calibration_error: the expected one, over `stepmetrics.BINS` bins of equal width.
    """

    name: str
    solutions: int
    left_out: int
    unscored: int
    steps: int
    good_steps: float | None
    accuracy: float | None
    macro_f1: float | None
    roc_auc: float | None
    calibration_error: float | None
    first_error: FirstErrors
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class LabelledResult:
    """overall: of all splits as if they were one. neutral: what steps rated neutral count as; None: there are none."""

    benchmark: str
    splits: tuple[LabelledSplit, ...]
    overall: LabelledSplit
    threshold: float
    neutral: Neutral | None

    def table(self) -> str:
        shown = (*self.splits, self.overall) if len(self.splits) > 1 else self.splits
        steps = [(s.name, s.steps, s.good_steps, s.accuracy, s.macro_f1, s.roc_auc, s.calibration_error) for s in shown]
        found = [(s.name, s.solutions, s.first_error) for s in shown]
        firsts = [(name, count, f.accuracy, f.acc_error, f.acc_correct, f.f1) for name, count, f in found]
        neutral = {None: "", "skip": ", neutral steps are not measured"}.get(
            self.neutral, f", neutral steps count as {self.neutral}"
        )
        return (
            f"{self.benchmark}, threshold {self.threshold:.4g}{neutral}\n"
            f"in percent; ECE: expected calibration error over {BINS} bins of equal width\n\n"
            + table(("split", "steps", "good", "accuracy", "macro F1", "ROC AUC", "ECE"), steps)
            + "\n\n"
            + table(("split", "solutions", "first error", "acc error", "acc correct", "F1"), firsts)
            + self._notes()
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _notes(self) -> str:
        notes = ""
        if self.overall.left_out:
            notes += f"\n{self.overall.left_out} lines have no labelled step and are left out."
        if self.overall.unscored:
            notes += (
                f"\n{self.overall.unscored} solutions could not be scored: their first error counts as missed, "
                "their steps are left out."
            )
        if self.overall.steps and not self.overall.bins:
            notes += "\nSome scores are outside 0 to 1, so they are no probabilities and have no calibration."
        return notes


class LabelledSteps(Format[LabelledExample]):
    """A data set that says of steps whether they are right."""

    def evaluate(
        self,
        splits: Mapping[str, Sequence[LabelledExample]],
        scores: Mapping[str, Sequence[Sequence[SolutionScores]]],
        options: Options,
    ) -> LabelledResult:
        measured = {
            name: [_Measured.of(*pair) for pair in zip(split, scores[name], strict=True)]
            for name, split in splits.items()
        }
        results = tuple(_split(name, split, options.threshold) for name, split in measured.items())
        overall = _split("all", [each for split in measured.values() for each in split], options.threshold)
        return LabelledResult(self.name, results, overall, options.threshold, self.neutral)


def example(path: Solution, alternatives: Sequence[Solution] = ()) -> LabelledExample:
    """With the path as None if it has no label: scoring it would measure nothing."""
    return LabelledExample(path if _known(path.labels) else None, tuple(alternatives))


def is_right(record: Record, name: str, rating: Any, neutral: Neutral) -> bool | None:
    """Whether a step rated -1, 0 or 1 counts as right; None without a label. name: of the rating, for the message.

    Raises RequestError for another rating.
    """
    if rating not in (None, -1, 0, 1) or isinstance(rating, bool):
        raise record.unexpected(name, rating, "-1, 0, 1 or null")
    if rating == 0:
        return {"good": True, "bad": False, "skip": None}[neutral]
    return None if rating is None else rating > 0


def solution(
    question: Question, steps: Sequence[str], labels: StepLabels, name: str, tags: Sequence[str] = ()
) -> Solution:
    wrong = [i for i, is_right in enumerate(labels) if is_right is False]
    return Solution(question, tuple(steps), name, wrong, tags, tuple(labels))


@dataclass(frozen=True)
class _Measured:
    """An example with the scores of its path and of its alternatives."""

    example: LabelledExample
    path_scores: SolutionScores
    pairs: tuple[tuple[float, bool], ...]  # the score and the label of every step that has both
    unscored: int

    @classmethod
    def of(cls, example: LabelledExample, scores: Sequence[SolutionScores]) -> _Measured:
        solutions = example.solutions
        checked = [checked_scores(s, one.steps, one.name) for one, s in zip(solutions, scores, strict=True)]
        pairs = [
            (score, label)
            for one, step_scores in zip(solutions, checked, strict=True)
            for score, label in zip(step_scores or (), one.labels or (), strict=step_scores is not None)
            if label is not None
        ]
        path_scores = None if example.path is None else checked[0]
        return cls(example, path_scores, tuple(pairs), sum(step_scores is None for step_scores in checked))

    def first_error(self, threshold: float) -> tuple[int | None, bool] | None:
        """The index of the path's first wrong step, and whether it is found; None without a path."""
        if self.example.path is None:
            return None
        labels = self.example.path.labels or ()
        labelled = next((i for i, is_right in enumerate(labels) if is_right is False), None)
        if self.path_scores is None:
            return labelled, False
        steps = enumerate(zip(self.path_scores, labels, strict=True))
        predicted = next((i for i, (score, label) in steps if label is not None and score < threshold), None)
        return labelled, predicted == labelled


def _split(name: str, measured: Sequence[_Measured], threshold: float) -> LabelledSplit:
    scores = [score for each in measured for score, _ in each.pairs]
    labels = [label for each in measured for _, label in each.pairs]
    bins = reliability(scores, labels)
    return LabelledSplit(
        name=name,
        solutions=sum(each.example.path is not None for each in measured),
        left_out=sum(not each.example.solutions for each in measured),
        unscored=sum(each.unscored for each in measured),
        steps=len(scores),
        good_steps=percent(labels) if labels else None,
        accuracy=accuracy(scores, labels, threshold),
        macro_f1=macro_f1(scores, labels, threshold),
        roc_auc=roc_auc(scores, labels),
        calibration_error=calibration_error(bins),
        first_error=FirstErrors.of(found for each in measured if (found := each.first_error(threshold)) is not None),
        bins=bins,
    )


def _known(labels: StepLabels | None) -> bool:
    return any(label is not None for label in labels or ())
