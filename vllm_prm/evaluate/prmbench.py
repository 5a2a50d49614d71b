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

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vllm_prm.evaluate.benchmark import Format, Options
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution, SolutionScores, checked_scores
from vllm_prm.evaluate.table import mean, table, unscored_note

DIMENSIONS = {
    "simplicity": ("redundency", "circular"),
    "soundness": ("counterfactual", "step_contradiction", "domain_inconsistency", "confidence"),
    "sensitivity": ("missing_condition", "deception", "multi_solutions"),
}
NO_ERRORS = "multi_solutions"  # the class that is measured by F1 alone
THRESHOLD = 0.5  # validity_threshold of the original's models, for example mr_eval/models/math_shepherd.py


@dataclass(frozen=True)
class PRMBenchExample:
    """One modified solution. wrong: indices of its wrong steps, from 0 (the file counts from 1)."""

    id: str
    question: str
    steps: tuple[str, ...]
    wrong: frozenset[int]
    classification: str

    @property
    def solutions(self) -> tuple[Solution, ...]:
        labels = [i not in self.wrong for i in range(len(self.steps))]
        return (Solution(self.question, self.steps, self.id, sorted(self.wrong), [self.classification], labels),)


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
        return {"benchmark": PRMBench.name, "prm_score": self.overall.prm_score, **asdict(self)}


class PRMBench(Format[PRMBenchExample]):
    """A modified solution and all of its wrong steps on each line."""

    name = "prmbench"
    fields = ("modified_question", "modified_process", "error_steps", "classification")

    def parse(self, record: Record) -> PRMBenchExample:
        """A wrong step beyond the last one is dropped, as the original's loop over the steps does."""
        steps = record.texts("modified_process")
        wrong = frozenset(number - 1 for number in record.integers("error_steps") if 1 <= number <= len(steps))
        classification = record.text("classification")
        return PRMBenchExample(
            f"{classification}_{record.identifier('idx')}",
            record.text("modified_question"),
            steps,
            wrong,
            classification,
        )

    def evaluate(
        self,
        splits: Mapping[str, Sequence[PRMBenchExample]],
        scores: Mapping[str, Sequence[Sequence[SolutionScores]]],
        options: Options,
    ) -> PRMBenchResult:
        """All files count together, as if they were one."""
        examples = [example for split in splits.values() for example in split]
        by_example = [only for split in scores.values() for (only,) in split]
        return evaluate_prmbench(examples, by_example, options.threshold)


def evaluate_prmbench(
    examples: Sequence[PRMBenchExample], scores: Sequence[SolutionScores], threshold: float = THRESHOLD
) -> PRMBenchResult:
    """scores: per solution its step scores, or None if it could not be scored.

    A solution that comes twice (same class and idx) counts once, the first time.
    Raises RequestError if scores do not fit the steps.
    """
    by_id: dict[str, tuple[PRMBenchExample, SolutionScores]] = {}
    for example, step_scores in zip(examples, scores, strict=True):
        name = f"solution {example.id}"
        by_id.setdefault(example.id, (example, checked_scores(step_scores, example.steps, name)))
    scored = [(example, step_scores) for example, step_scores in by_id.values() if step_scores is not None]
    by_class: dict[str, list[tuple[PRMBenchExample, tuple[float, ...]]]] = {}
    for example, step_scores in scored:
        by_class.setdefault(example.classification, []).append((example, step_scores))
    published = [name for members in DIMENSIONS.values() for name in members if name in by_class]
    names = published + sorted(set(by_class).difference(published))
    classes = tuple(_class_result(name, by_class[name], threshold) for name in names)
    by_name = {result.name: result.prm_score for result in classes}
    dimensions = {name: mean([by_name.get(member) for member in members]) for name, members in DIMENSIONS.items()}
    overall = _class_result("overall", scored, threshold)
    return PRMBenchResult(overall, classes, dimensions, threshold, len(by_id) - len(scored))


def _class_result(
    name: str, scored: Sequence[tuple[PRMBenchExample, tuple[float, ...]]], threshold: float
) -> ClassResult:
    counts = {(is_right, is_judged_right): 0 for is_right in (True, False) for is_judged_right in (True, False)}
    for example, step_scores in scored:
        for i, score in enumerate(step_scores):
            counts[i not in example.wrong, score > threshold] += 1
    tp, fn, fp, tn = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    f1, f1_negative = _f1(tp, fp, fn), _f1(tn, fn, fp)
    prm_score = f1 if name == NO_ERRORS else (f1 + f1_negative) / 2
    return ClassResult(name, len(scored), tp, fp, tn, fn, f1, f1_negative, prm_score)


def _f1(hits: int, false_alarms: int, missed: int) -> float:
    """In percent; 0 where nothing was hit, also if there was nothing to hit."""
    return 200 * hits / (2 * hits + false_alarms + missed) if hits else 0.0
