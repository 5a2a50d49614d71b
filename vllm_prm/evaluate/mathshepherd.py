"""Math-Shepherd: steps whose labels were found by completing them. https://arxiv.org/abs/2312.08935

    {"input": "What is 1 + 2 + 3? Step 1: 1 + 2 = 3 ки\\nStep 2: 3 + 3 = 5 ки", "label": "... = 3 +\\n... = 5 -"}

`label` is `input` with + or - in place of each tag. A tag has two characters and a sign has one, which is how signs and
tags are put together, as in https://github.com/huggingface/trl (examples/datasets/math_shepherd.py).

The question ends at the first "Step 1:", and where there is none at the last "?" before the first tag, as there. About
a dozen of the set's 445,000 lines have a tag inside or right behind the question; that script names them one by one.
Here a tag before "Step 1:" is dropped with its sign; and without a "Step 1:", a text before the first tag that ends
with "?" or has none is the question, whose sign says nothing of a step.
"""

from __future__ import annotations

import re

from vllm_prm.evaluate.labelled import LabelledExample, LabelledSteps, example, solution
from vllm_prm.evaluate.records import Record

TAG = "ки"
_FIRST_STEP = re.compile(r"[Ss]tep 1:")
_SIGNS = {"+": True, "-": False}


class MathShepherd(LabelledSteps):
    """A question with its tagged steps, and the same text with signs, on each line."""

    name = "math-shepherd"
    fields = ("input", "label")

    def parse(self, record: Record) -> LabelledExample:
        """Text after the last tag has no sign and is dropped. "Step 1: " stays part of a step."""
        *pieces, _ = record.text("input").split(TAG)
        if not pieces:
            raise record.unexpected("input", record.fields["input"], f"a tag {TAG} after each step")
        labels = _labels(record, pieces)
        before, question, first = _cut(record, pieces)
        steps = [text.strip() for text in (first, *pieces[before + 1 :]) if text is not None]
        task = record.optional_text("task")
        name = record.identifier("id")
        return example(
            solution(question.strip(), steps, labels[len(pieces) - len(steps) :], name, () if task is None else (task,))
        )


def _labels(record: Record, pieces: list[str]) -> list[bool]:
    """The sign that stands in `label` where each piece's tag stands in `input`."""
    signed, at, labels = record.text("label"), -1, []
    for i, piece in enumerate(pieces, 1):
        at += len(piece) + 1
        sign = signed[at : at + 1]
        if sign not in _SIGNS:
            raise record.unexpected(
                "label",
                signed,
                f"the text of input with + or - for each {TAG}: at character {at}, for tag {i}, stands {sign!r}",
            )
        labels.append(_SIGNS[sign])
    return labels


def _cut(record: Record, pieces: list[str]) -> tuple[int, str, str | None]:
    """Where the question ends: the index of that piece, the question, and the first step if the piece holds it too."""
    for i, piece in enumerate(pieces):
        if found := _FIRST_STEP.search(piece):
            return i, "".join([*pieces[:i], piece[: found.start()]]), piece[found.start() :]
    question, mark, first = pieces[0].rpartition("?")
    if mark and first.strip():
        return 0, question + mark, first
    if len(pieces) == 1:
        raise record.unexpected("input", record.fields["input"], "a question, and behind it Step 1: or another step")
    return 0, pieces[0], None
