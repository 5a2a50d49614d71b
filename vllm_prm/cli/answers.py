"""From lines to answers: what a line asks for is scored, a batch at a time, and put into the fields of its output.

Knows no files, no options, and of models only a function that scores. Memory holds one batch, however long the input
is. The invariant: every line gets one answer, in the order of the lines; a line that cannot be scored costs its own
answer and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vllm_prm.errors import PRMError, RequestError
from vllm_prm.jsonl import Line
from vllm_prm.lines import Solution, candidates, solution
from vllm_prm.prompts import split_steps
from vllm_prm.recipes import Recipe
from vllm_prm.scores import Ranking, StepScores

Score = Callable[[list[Solution]], Sequence[StepScores | PRMError]]  # one result for each solution, in their order


@dataclass(frozen=True)
class Answer:
    """The output of one line.

    fields: all that the output says: the line's own fields, then either the task's and "scored_by", or "error".
    ends_batch: the next answer is not scored yet, so it is time to write what there is.
    """

    line: Line
    fields: Mapping[str, Any]
    ends_batch: bool = False

    @property
    def error(self) -> str | None:
        """What was wrong with the line; None if it was scored."""
        return self.fields.get("error")


class Task(ABC):
    """What a command makes of a line.

    made_by: all that the numbers depend on, for "scored_by": model, recipe and the task's options.
    own_fields: every field that an answer may add to a line.
    """

    def __init__(self, recipe: Recipe, made_by: Mapping[str, Any], own_fields: Iterable[str]) -> None:
        self._recipe = recipe
        self.made_by = dict(made_by)
        self.own_fields = frozenset(own_fields) | {"scored_by", "error"}

    @abstractmethod
    def solutions(self, fields: Mapping[str, Any]) -> list[Solution]:
        """What a line asks for. Raises RequestError."""

    @abstractmethod
    def score_fields(
        self, fields: Mapping[str, Any], solutions: list[Solution], results: list[StepScores]
    ) -> dict[str, Any]:
        """What an answer adds to the fields of its line: one result for each of its solutions."""

    def repeated_fields(self, line: Line) -> dict[str, Any]:
        """What an answer repeats of its line: its fields, but not those that an earlier run wrote there."""
        if line.value is None:
            return {"line": line.text}
        return {name: value for name, value in line.value.items() if name not in self.own_fields}

    def _split(self, text: str) -> list[str]:
        return split_steps(text, self._recipe)


class ScoreTask(Task):
    """`vllm-prm score`: the step scores of one solution.

    scorer: the model and the recipe, for "scored_by". aggregate: None is the recipe's own way. threshold: below it a
    step is wrong; None is the recipe's own. returned: what to write besides the scores.
    """

    def __init__(
        self,
        recipe: Recipe,
        scorer: Mapping[str, Any],
        aggregate: str | None,
        threshold: float | None,
        returned: Literal["probabilities", "logits"] | None = None,
    ) -> None:
        self._aggregate = aggregate or recipe.aggregation
        self._threshold = recipe.threshold if threshold is None else threshold
        self._returned = returned
        made_by = {**scorer, "aggregate": self._aggregate, "threshold": self._threshold}
        own_fields = ["step_scores", "score", "first_error", "answer_mass"]
        if returned is not None:
            made_by |= {"return": returned}
            own_fields += [returned, "labels"]
        super().__init__(recipe, made_by, own_fields)

    def solutions(self, fields: Mapping[str, Any]) -> list[Solution]:
        return [solution(fields, self._split)]

    def score_fields(
        self, fields: Mapping[str, Any], solutions: list[Solution], results: list[StepScores]
    ) -> dict[str, Any]:
        ((_, steps),), (scores,) = solutions, results
        added: dict[str, Any] = {} if "steps" in fields else {"steps": steps}
        added |= {
            "step_scores": list(scores.step_scores),
            "score": scores.aggregate(self._aggregate),
            "first_error": scores.first_error(self._threshold),
        }
        if scores.answer_mass:
            added["answer_mass"] = list(scores.answer_mass)
        if self._returned is not None:
            rows = getattr(scores, self._returned)
            added |= {self._returned: [list(row) for row in rows], "labels": list(self._recipe.labels)}
        return added


class RankTask(Task):
    """`vllm-prm rank`: the order of one question's candidates. The parameters are ScoreTask's."""

    def __init__(self, recipe: Recipe, scorer: Mapping[str, Any], aggregate: str | None) -> None:
        self._aggregate = aggregate or recipe.aggregation
        made_by = {**scorer, "aggregate": self._aggregate}
        super().__init__(recipe, made_by, ["best", "order", "scores", "step_scores"])

    def solutions(self, fields: Mapping[str, Any]) -> list[Solution]:
        return candidates(fields, self._split)

    def score_fields(
        self, fields: Mapping[str, Any], solutions: list[Solution], results: list[StepScores]
    ) -> dict[str, Any]:
        ranking = Ranking.of(results, self._aggregate)
        return {
            "best": ranking.best,
            "order": list(ranking.order),
            "scores": list(ranking.scores),
            "step_scores": [list(scores.step_scores) for scores in results],
        }


def answers(lines: Iterable[Line], task: Task, score: Score, batch_size: int) -> Iterator[Answer]:
    """Answer every line. batch_size: solutions (not lines) to score at a time; the whole of a line is in one batch."""
    for batch in _batches(lines, task, batch_size):
        results = iter(score([solution for pending in batch for solution in pending.solutions]))
        for pending in batch:
            fields = _answered(pending, task, [next(results) for _ in pending.solutions])
            yield Answer(pending.line, fields, ends_batch=pending is batch[-1])


@dataclass(frozen=True)
class _Pending:
    """A line on its way: the solutions to score for it, or why there are none."""

    line: Line
    solutions: list[Solution]
    fault: str | None = None


def _batches(lines: Iterable[Line], task: Task, batch_size: int) -> Iterator[list[_Pending]]:
    batch: list[_Pending] = []
    solutions = 0
    for line in lines:
        batch.append(_pending(line, task))
        solutions += len(batch[-1].solutions)
        if solutions >= batch_size or len(batch) >= 4 * batch_size:  # 4: a run of bad lines is written out as well
            yield batch
            batch, solutions = [], 0
    if batch:
        yield batch


def _pending(line: Line, task: Task) -> _Pending:
    if line.value is None:
        return _Pending(line, [], line.fault)
    try:
        return _Pending(line, task.solutions(line.value))
    except RequestError as error:
        return _Pending(line, [], str(error))


def _answered(pending: _Pending, task: Task, results: list[StepScores | PRMError]) -> dict[str, Any]:
    repeated = task.repeated_fields(pending.line)
    fault = pending.fault or _fault(pending.solutions, results)
    if fault is not None:
        return {**repeated, "error": f"line {pending.line.number}: {fault}"}
    scores = [result for result in results if isinstance(result, StepScores)]  # all of them: there is no fault
    return {**repeated, **task.score_fields(repeated, pending.solutions, scores), "scored_by": task.made_by}


def _fault(solutions: list[Solution], results: list[StepScores | PRMError]) -> str | None:
    for i, ((_, steps), result) in enumerate(zip(solutions, results, strict=True)):
        place = f"candidate {i}: " if len(solutions) > 1 else ""
        if isinstance(result, PRMError):
            return f"{place}{result}"
        if len(result.step_scores) != len(steps):  # a server that is not ours, or a bug: never a shifted list
            return f"{place}{len(result.step_scores)} scores came back for {len(steps)} steps; none of them is used"
    return None
