"""PRM800K: people's ratings of steps, -1, 0 or 1. https://arxiv.org/abs/2305.20050

A line is a question and, for each step that people looked at, its candidates ("completions") with their ratings. The
solution that is measured is the path on which they went on: `chosen_completion`, or `human_completion` where they wrote
the step themselves, which they did to have a right one (https://github.com/openai/prm800k, README.md). Where they went
no further, phase 2 keeps the rest of the candidates of that step beside the solution's own one: if it is the text of
`question.pre_generated_steps`, or there is only one candidate, it is the path's last step (so are nearly all first
errors of phase 2); else the path ends before it. Steps after that belong to no path.

A rating of 0, "not wrong and no progress", is a right step unless the recipe or the user says otherwise: so the paper's
authors score solutions (https://github.com/openai/prm800k/issues/8). TRL's copy of the data set counts it as wrong
(examples/datasets/prm800k.py). Steps without a rating, or flagged by people who did not know, have no label. Lines of a
problem reported as broken ("bad_problem") are left out. Questions that many people rated, for quality control, stand in
the file once for each of them, and count as often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllm_prm.evaluate.benchmark import Reading
from vllm_prm.evaluate.labelled import LabelledExample, LabelledSteps, example, is_right, solution
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution
from vllm_prm.recipes.types import Neutral

BROKEN = "bad_problem"


@dataclass(frozen=True)
class PRM800K(LabelledSteps):
    """A question and the rated candidates of each step on each line; the four files of phase 1 and 2.

    all_completions: also measure each candidate off the path, behind the steps of the path before it.
    """

    neutral: Neutral = "good"
    all_completions: bool = False

    name = "prm800k"
    fields = ("question", "label")

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """`question` and `label` are common names; both are objects here."""
        return all(isinstance(fields.get(name), dict) for name in self.fields)

    def read_as(self, reading: Reading) -> PRM800K:
        return replace(self, neutral=reading.neutral or self.neutral, all_completions=reading.all_completions)

    def parse(self, record: Record) -> LabelledExample:
        question, label = record.record("question"), record.record("label")
        problem, name = question.text("problem"), record.identifier("id")
        given = question.optional_texts("pre_generated_steps")
        finish = label.optional_text("finish_reason")
        if finish == BROKEN:
            return LabelledExample(None)
        texts: list[str] = []
        labels: list[bool | None] = []
        alternatives: list[Solution] = []
        for i, step in enumerate(label.optional_records("steps")):
            candidates = [self._candidate(one) for one in step.optional_records("completions")]
            chosen, goes_on = self._chosen(step, candidates, given[i] if i < len(given) else None)
            if self.all_completions:
                others = [one for one in candidates if one is not chosen and one.is_right is not None]
                alternatives += [_alternative(problem, texts, one, name) for one in others]
            if chosen is None:
                break
            texts.append(chosen.text)
            labels.append(chosen.is_right)
            if not goes_on:
                break
        tags = () if finish is None else (finish,)
        return example(solution(problem, texts, labels, name, tags), alternatives)

    def _candidate(self, completion: Record) -> _Candidate:
        label = is_right(completion, "rating", completion.fields.get("rating"), self.neutral)
        is_flagged = completion.optional_boolean("flagged") is True
        return _Candidate(completion.text("text"), None if is_flagged else label)

    def _chosen(
        self, step: Record, candidates: Sequence[_Candidate], given: str | None
    ) -> tuple[_Candidate | None, bool]:
        """The path's step, and whether people went on behind it.

        given: the text of this step in the solution that was rated, None in phase 1.
        """
        index = step.optional_integer("chosen_completion")
        if index is not None:
            if not 0 <= index < len(candidates):
                expected = f"the index of one of the {len(candidates)} completions, from 0, or null"
                raise step.unexpected("chosen_completion", index, expected)
            return candidates[index], True
        written = step.fields.get("human_completion")
        if isinstance(written, dict):  # with fields of its own in the files, a text in their README
            return _Candidate(step.record("human_completion").text("text"), True), True
        if written is not None:
            return _Candidate(step.text("human_completion"), True), True
        own = [one for one in candidates if one.text == given] or (candidates if len(candidates) == 1 else [])
        return (own[0] if own else None), False


@dataclass(frozen=True)
class _Candidate:
    """One text for a step. is_right: None if it has no label."""

    text: str
    is_right: bool | None


def _alternative(problem: str, before: Sequence[str], last: _Candidate, name: str) -> Solution:
    """A candidate off the path behind the path's steps; only its own label counts, for the others are the path's."""
    labels = [*(None for _ in before), last.is_right]
    tags = [f"another step {len(before) + 1}"]
    return replace(solution(problem, [*before, last.text], labels, name, tags), wrong=None)
