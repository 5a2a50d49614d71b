"""JSON Lines, read: one object a line. A line that cannot be used becomes a Line with a fault, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from vllm_prm.inputs import shown

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # as some editors write it


@dataclass(frozen=True)
class Line:
    """One line that is not blank. number: counted from 1 over all of the input; fault: why `value` is None."""

    number: int
    text: str
    value: dict[str, Any] | None
    fault: str | None = None


def read_lines(streams: Iterable[BinaryIO]) -> Iterator[Line]:
    """The lines of JSONL files, one file after the other; blank lines are counted and passed over."""
    number = 0
    for stream in streams:
        for at, content in enumerate(stream):
            number += 1
            if at == 0:
                content = content.removeprefix(_BYTE_ORDER_MARK)
            if content.strip():
                yield parsed_line(number, content.rstrip(b"\r\n"))


def parsed_line(number: int, content: bytes) -> Line:
    text = content.decode("utf-8", errors="replace")
    try:
        value = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Line(number, text, None, f"not UTF-8: byte {error.object[error.start]:#04x} at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Line(number, text, None, f"not JSON: {error.msg} at column {error.colno}; expected one object a line")
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets thousands deep
        return Line(number, text, None, f"not JSON that can be read: {error}")
    if not isinstance(value, dict):
        return Line(number, text, None, f"{shown(value)}, not an object; expected one object a line")
    return Line(number, text, value)
