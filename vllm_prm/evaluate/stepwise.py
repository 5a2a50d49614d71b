"""Stepwise supervision, the form that TRL's PRMTrainer is trained on, and axolotl's too.

    {"prompt": "What is 1 + 2 + 3?", "completions": ["1 + 2 = 3", "3 + 3 = 5"], "labels": [true, false]}

https://huggingface.co/docs/trl/dataset_formats#stepwise-supervision
"""

from __future__ import annotations

from typing import Any

from vllm_prm.evaluate.labelled import LabelledExample, LabelledSteps, example, solution
from vllm_prm.evaluate.records import Record


class Stepwise(LabelledSteps):
    """A prompt, the steps and whether each is right, on each line."""

    name = "stepwise"
    fields = ("prompt", "completions", "labels")

    def parse(self, record: Record) -> LabelledExample:
        prompt, steps, labels = record.question("prompt"), record.texts("completions"), record.values("labels")
        if len(labels) != len(steps):
            raise record.unexpected("labels", list(labels), f"one label for each of the {len(steps)} completions")
        known = [_label(record, i, label) for i, label in enumerate(labels)]
        return example(solution(prompt, steps, known, record.identifier("id")))


def _label(record: Record, i: int, label: Any) -> bool:
    """TRL's trainer makes numbers of labels, so some files have 1 and 0."""
    if isinstance(label, bool) or (isinstance(label, int) and label in (0, 1)):
        return bool(label)
    raise record.unexpected(f"labels[{i}]", label, "true or false, or 1 or 0")
