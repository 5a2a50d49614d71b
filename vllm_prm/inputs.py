"""Texts that users send, checked: one place for every way in (Python, HTTP, JSONL lines, benchmark files).

Each check returns what it was given, or raises RequestError that names the place and says what stands there and what
was expected. Nothing here knows recipes or models; whether a text can be scored is for `prompts` to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vllm_prm.errors import RequestError

_MAX_SHOWN = 60  # characters of a value that a message repeats: enough to recognise it


def checked_text(value: Any, name: str) -> str:
    """A string that UTF-8 can write. name: of its place, for the message."""
    if not isinstance(value, str):
        raise RequestError(f"{name} is {shown(value)}; expected text")
    if half := half_character(value):
        raise RequestError(f"{name}: {half}")
    return value


def checked_steps(value: Any, name: str = "steps", instead: str = "") -> list[str]:
    """A list of texts, one for each step; neither the list nor a text may be empty.

    instead: what to do with a solution that is one text; "" points to `split_steps`.
    """
    if isinstance(value, str):
        cut = instead or "vllm_prm.split_steps(text, recipe) cuts a solution into its steps"
        raise RequestError(f"{name} is one text; expected a list with one text for each step. {cut}")
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise RequestError(f"{name} is {shown(value)}; expected a list with one text for each step")
    if not value:
        raise RequestError(f"{name} is empty: there are no steps to score; give at least one")
    for number, step in enumerate(value, 1):
        if not isinstance(step, str) or half_character(step) or not step.strip():
            place = f"step {number} of {len(value)}" + (f" in {name}" if name != "steps" else "")
            checked_text(step, place)
            raise RequestError(
                f"{place} is empty; leave it out, because nothing can be said about it and every later score would "
                "move by one"
            )
    return list(value)


def half_character(text: str) -> str | None:
    """What is wrong with a text that holds half of a surrogate pair, which no tokenizer reads; None if it does not."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        return (
            f"character {error.start} is half of a surrogate pair, {half}, which is no text; send both halves or none"
        )
    return None


def shown(value: Any) -> str:
    """What a value is, in JSON's words, with its beginning or its length, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float | str):
        kind = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        text = json.dumps(value[: _MAX_SHOWN + 1] if isinstance(value, str) else value, ensure_ascii=False)
        text = text.encode("utf-8", "backslashreplace").decode()  # a message must not hold half a character itself
        return f"the {kind} {text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + '...'}"
    if isinstance(value, Mapping):
        return f"an object of {len(value)} field{'' if len(value) == 1 else 's'}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__} ({str(value)[:_MAX_SHOWN]!r})"
