"""VisualProcessBench: is every step of a solution about images judged right? https://arxiv.org/abs/2503.10291

    {"image": ["images/1.png"], "question": "...", "answer": "B",
     "response": {"steps": ["...", "..."], "process_correctness": [1, -1]}, "policy_model": "...", "data_source": "..."}

1, 0 and -1 are a right, a neutral and a wrong step (https://huggingface.co/datasets/OpenGVLab/VisualProcessBench). The
authors' figures are the F1 of right steps and that of wrong ones, which neutral steps are no part of, and their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vllm_prm.evaluate.benchmark import Reading
from vllm_prm.evaluate.labelled import LabelledExample, LabelledSteps, example, is_right, solution
from vllm_prm.evaluate.records import Record
from vllm_prm.recipes.types import Neutral


@dataclass(frozen=True)
class VisualProcessBench(LabelledSteps):
    """A question with its images, and a response whose steps are rated, on each line."""

    neutral: Neutral = "skip"

    name = "visualprocessbench"
    fields = ("question", "response")

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """`question` and `response` are common names; the ratings lie inside the response."""
        response = fields.get("response")
        return "question" in fields and isinstance(response, dict) and "process_correctness" in response

    def read_as(self, reading: Reading) -> VisualProcessBench:
        super().read_as(replace(reading, neutral=None))
        return replace(self, neutral=reading.neutral or self.neutral)

    def parse(self, record: Record) -> LabelledExample:
        response = record.record("response")
        steps, ratings = response.texts("steps"), response.values("process_correctness")
        if len(ratings) != len(steps):
            raise response.unexpected("process_correctness", list(ratings), f"a rating for each of {len(steps)} steps")
        labels = [
            is_right(response, f"process_correctness[{i}]", rating, self.neutral) for i, rating in enumerate(ratings)
        ]
        tags = [text for name in ("policy_model", "data_source") if (text := record.optional_text(name)) is not None]
        return example(solution(record.question("question"), steps, labels, record.identifier("id"), tags))
