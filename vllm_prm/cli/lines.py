"""JSONL lines, and what a line asks for.

Owns the input formats. A line that cannot be used becomes a Line with a fault, never an exception: one bad line of
ten thousand costs its own answer and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from vllm_prm.errors import RequestError

Ask = tuple[str, list[str]]  # (question, steps)
Split = Callable[[str], list[str]]  # a solution's text into its steps

QUESTION = ("question", "problem")  # "problem": ProcessBench, https://huggingface.co/datasets/Qwen/ProcessBench
EXPECTED = '{"question": ..., "steps": [...]} or {"question": ..., "solution": "..."}'
EXPECTED_CANDIDATES = '{"question": ..., "candidates": [[step, ...] or "solution text", ...]}'


@dataclass(frozen=True)
class Line:
    """One line that is not blank. number: counted from 1 over all of the input; fault: why `value` is None."""

    number: int
    text: str
    value: dict[str, Any] | None
    fault: str | None = None


def read_lines(streams: Iterable[BinaryIO]) -> Iterator[Line]:
    """The lines of JSONL files, one after the other; blank lines are passed over."""
    number = 0
    for stream in streams:
        for at, raw in enumerate(stream):
            number += 1
            if at == 0:
                raw = raw.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, as some editors write it
            if raw.strip():
                yield _line(number, raw.rstrip(b"\r\n"))


def _line(number: int, raw: bytes) -> Line:
    text = raw.decode("utf-8", errors="replace")
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Line(number, text, None, f"not UTF-8: byte {error.object[error.start]:#04x} at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Line(number, text, None, f"not JSON: {error.msg} at column {error.colno}; expected one object a line")
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets thousands deep
        return Line(number, text, None, f"not JSON that can be read: {error}")
    if not isinstance(value, dict):
        return Line(number, text, None, f"a JSON {_kind(value)}, not an object; expected {EXPECTED}")
    return Line(number, text, value)


def solution(value: Mapping[str, Any], split: Split) -> Ask:
    """The question and the steps of a line. Raises RequestError that says what was found."""
    question = _question(value, EXPECTED)
    if "steps" in value:
        return question, _steps(value["steps"], '"steps"')
    if "solution" in value:
        return question, _split(value["solution"], '"solution"', split)
    if "candidates" in value:
        raise RequestError('the line has "candidates"; `vllm-prm rank` takes those, `score` takes ' + EXPECTED)
    raise RequestError(f'no "steps" and no "solution" among the fields {_names(value)}; expected {EXPECTED}')


def candidates(value: Mapping[str, Any], split: Split) -> list[Ask]:
    """The question and the steps of each candidate. Raises RequestError that says which candidate is wrong."""
    question = _question(value, EXPECTED_CANDIDATES)
    given = value.get("candidates")
    if "candidates" not in value:
        raise RequestError(f'no "candidates" among the fields {_names(value)}; expected {EXPECTED_CANDIDATES}')
    if not isinstance(given, list) or not given:
        raise RequestError(f'"candidates" is {_shown(given)}; expected a list of at least one candidate')
    return [
        (question, _split(one, f"candidate {i}", split) if isinstance(one, str) else _steps(one, f"candidate {i}"))
        for i, one in enumerate(given)
    ]


def _question(value: Mapping[str, Any], expected: str) -> str:
    name = next((name for name in QUESTION if name in value), None)
    if name is None:
        raise RequestError(f'no "question" (or "problem") among the fields {_names(value)}; expected {expected}')
    return _text(value[name], f'"{name}"')


def _steps(value: Any, what: str) -> list[str]:
    if not isinstance(value, list):
        hint = '; a text in one piece goes into "solution"' if isinstance(value, str) and what == '"steps"' else ""
        raise RequestError(f"{what} is {_shown(value)}; expected a list of texts, one for each step{hint}")
    if not value:
        raise RequestError(f"{what} has no steps; expected at least one")
    return [_text(step, f"step {i} of {what}") for i, step in enumerate(value)]


def _split(value: Any, what: str, split: Split) -> list[str]:
    text = _text(value, what)
    try:
        return split(text)
    except RequestError as error:
        raise RequestError(f"{what}: {error}") from error


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{what} is {_shown(value)}; expected a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = value[error.start]
        raise RequestError(f"{what} holds half a character, {half!a}, which no tokenizer can read") from None
    return value


def _names(value: Mapping[str, Any]) -> str:
    return ", ".join(json.dumps(name) for name in value) or "(none)"


def _shown(value: Any) -> str:
    """Kind and beginning of a value, for a message."""
    if value is None:
        return "null"
    text = json.dumps(value, ensure_ascii=True)
    return f"the {_kind(value)} {text if len(text) <= 40 else text[:37] + '...'}"  # 40: enough to recognise it


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return kinds.get(type(value), "null")
