"""PRMBench: is every step of a solution judged right? https://arxiv.org/abs/2501.03124

Steps are judged right if they score above 0.5. With "right" as the positive class, F1 = 2 TP / (2 TP + FP + FN), the
negative F1 = 2 TN / (2 TN + FN + FP), and PRMScore is their mean; for `multi_solutions`, whose solutions have no wrong
step, it is F1 alone. The overall score is that of all steps of all classes together, a dimension's is the mean of its
classes'. Read in https://github.com/ssmisya/PRMBench, mr_eval/tasks/prmtest_classified/task.py (counts) and
mr_visualize/eval_res_view/draw_tabs/form_latex_strs.ipynb (PRMScore, dimensions).

Two differences: where a precision or recall is undefined the original puts -1 into the formula, here that F1 is 0; and
its `similarity`, which compares with the unmodified solutions, is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_prm.evaluate.fields import Line, Scores, check_scores
from vllm_prm.evaluate.table import mean, table, unscored_note

FIELDS = ("modified_question", "modified_process", "error_steps", "classification")

DIMENSIONS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
NO_ERRORS = "multi_solutions"  # the class that is measured by F1 alone
THRESHOLD = 0.5  # validity_threshold of the original's models, for example mr_eval/models/math_shepherd.py


@dataclass(frozen=True)
class Example:
    """One modified solution. wrong: indices of its wrong steps, from 0 (the file counts from 1)."""

    id: str
    question: str
    steps: tuple[str, ...]
    wrong: frozenset[int]
    classification: str

    @classmethod
    def parse(cls, line: Line) -> Example:
        """A wrong step beyond the last one is dropped, as the original's loop over the steps does."""
        steps = line.texts("modified_process")
        wrong = frozenset(step - 1 for step in line.integers("error_steps") if 1 <= step <= len(steps))
        kind = line.text("classification")
        return cls(f"{kind}_{line.raw.get('idx', line.where)}", line.text("modified_question"), steps, wrong, kind)

    @property
    def solutions(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ((self.question, self.steps),)


@dataclass(frozen=True)
class ClassResult:
    """Counts of steps, and percentages. solutions: how many were measured."""

    name: str
    solutions: int
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    f1: float
    f1_negative: float
    prm_score: float


@dataclass(frozen=True)
class PRMBenchResult:
    """overall: of all steps together. dimensions: PRMScore in percent, None without any of its classes.

    unscored: solutions that could not be scored; they are left out, as in the original.
    """

    overall: ClassResult
    classes: tuple[ClassResult, ...]
    dimensions: dict[str, float | None]
    threshold: float
    unscored: int

    def table(self) -> str:
        rows: list[tuple[Any, ...]] = [
            (c.name, c.solutions, c.f1, c.f1_negative, c.prm_score) for c in (*self.classes, self.overall)
        ]
        rows[-1:-1] = [(f"{name} (mean)", None, None, None, score) for name, score in self.dimensions.items()]
        return (
            f"PRMBench, threshold {self.threshold:.4g}\n"
            + table(("class", "solutions", "F1", "negative F1", "PRMScore"), rows)
            + unscored_note(self.unscored, "are left out")
        )

    def to_dict(self) -> dict[str, Any]:
        return {"benchmark": "prmbench", "prm_score": self.overall.prm_score, **asdict(self)}


def evaluate_prmbench(
    examples: Sequence[Example], scores: Sequence[Scores], threshold: float = THRESHOLD
) -> PRMBenchResult:
    """scores: per solution its step scores, or None if it could not be scored.

    A solution that comes twice (same class and idx) counts once, the first time.
    Raises RequestError if scores do not fit the steps.
    """
    judged: dict[str, tuple[Example, Scores]] = {}
    for example, given in zip(examples, scores, strict=True):
        judged.setdefault(example.id, (example, check_scores(given, len(example.steps), f"solution {example.id}")))
    scored = [(example, steps) for example, steps in judged.values() if steps is not None]
    known = [name for names in DIMENSIONS.values() for name in names]
    found = {example.classification for example, _ in scored}
    names = [name for name in known if name in found] + sorted(found.difference(known))
    classes = tuple(
        _measured(name, [one for one in scored if one[0].classification == name], threshold) for name in names
    )
    by_name = {result.name: result.prm_score for result in classes}
    dimensions = {name: mean([by_name.get(c) for c in members]) for name, members in DIMENSIONS.items()}
    return PRMBenchResult(
        _measured("overall", scored, threshold), classes, dimensions, threshold, len(judged) - len(scored)
    )


def _measured(name: str, scored: Sequence[tuple[Example, tuple[float, ...]]], threshold: float) -> ClassResult:
    counts = {(right, called): 0 for right in (True, False) for called in (True, False)}
    for example, steps in scored:
        for i, score in enumerate(steps):
            counts[i not in example.wrong, score > threshold] += 1
    tp, fn, fp, tn = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    f1, f1_negative = _f1(tp, fp, fn), _f1(tn, fn, fp)
    score = f1 if name == NO_ERRORS else (f1 + f1_negative) / 2
    return ClassResult(name, len(scored), tp, fp, tn, fn, f1, f1_negative, score)


def _f1(hits: int, false: int, missed: int) -> float:
    """In percent. 0 if there is nothing to find and nothing was found."""
    return 200 * hits / (2 * hits + false + missed) if hits else 0.0
