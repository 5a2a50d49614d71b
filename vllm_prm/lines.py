"""What a JSONL line asks for: one solution, or all candidates of one question.

Owns the names of the input's fields. Reading lines is `vllm_prm.jsonl`'s, checking texts `vllm_prm.inputs`'; recipes
are not known here, so cutting a text into steps is the caller's. The invariant: what is returned holds only texts that
UTF-8 can write and no empty step; everything else is a RequestError that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.inputs import checked_steps, checked_text, shown
from vllm_prm.questions import Question, checked_question

Solution = tuple[Question, list[str]]  # (question, steps)
Split = Callable[[str], list[str]]  # a solution's text into its steps; raises RequestError if it holds none

QUESTION = ("question", "problem")  # "problem": ProcessBench, https://huggingface.co/datasets/Qwen/ProcessBench
SCORE_FORMAT = '{"question": ..., "steps": [...]} or {"question": ..., "solution": "..."}'
RANK_FORMAT = '{"question": ..., "candidates": [[step, ...] or "solution text", ...]}'


def solution(fields: Mapping[str, Any], split: Split) -> Solution:
    """The question and the steps of a line. Raises RequestError that says what was found."""
    question = _question(fields, SCORE_FORMAT)
    if "steps" in fields:
        return question, checked_steps(fields["steps"], instead='A text in one piece goes into "solution"')
    if "solution" in fields:
        return question, _split(fields["solution"], '"solution"', split)
    if "candidates" in fields:
        raise RequestError(f'the line has "candidates"; `vllm-prm rank` takes those, `score` takes {SCORE_FORMAT}')
    raise RequestError(f'no "steps" and no "solution" among the fields {_names(fields)}; expected {SCORE_FORMAT}')


def candidates(fields: Mapping[str, Any], split: Split) -> list[Solution]:
    """The question with the steps of each candidate. Raises RequestError that says which candidate is wrong."""
    question = _question(fields, RANK_FORMAT)
    if "candidates" not in fields:
        raise RequestError(f'no "candidates" among the fields {_names(fields)}; expected {RANK_FORMAT}')
    listed = fields["candidates"]
    if not isinstance(listed, list) or not listed:
        raise RequestError(f'"candidates" is {shown(listed)}; expected a list of at least one candidate')
    return [(question, _candidate(value, f"candidate {i}", split)) for i, value in enumerate(listed)]


def _candidate(value: Any, name: str, split: Split) -> list[str]:
    return _split(value, name, split) if isinstance(value, str) else checked_steps(value, name)


def _question(fields: Mapping[str, Any], expected: str) -> Question:
    name = next((name for name in QUESTION if name in fields), None)
    if name is None:
        raise RequestError(f'no "question" (or "problem") among the fields {_names(fields)}; expected {expected}')
    return checked_question(fields[name], f'"{name}"')


def _split(value: Any, name: str, split: Split) -> list[str]:
    text = checked_text(value, name)
    try:
        return split(text)
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from error


def _names(fields: Mapping[str, Any]) -> str:
    return ", ".join(json.dumps(name) for name in fields) or "(none)"
