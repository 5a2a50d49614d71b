"""Tokens as a person reads them: where one ends, which are read, and white space that can be seen.

In colour on a terminal, unless NO_COLOR is set (no-color.org) or the terminal is a dumb one; else with brackets.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TextIO

from vllm_prm.recipes.pieces import piece_text

# ANSI's "select graphic rendition": https://en.wikipedia.org/wiki/ANSI_escape_code
_READ, _TAG, _OTHER, _END = "\033[1;30;42m", "\033[33m", "\033[2m", "\033[0m"
_NEWLINE, _TAB = "↵\n", "⇥"


def in_colour(stream: TextIO | None = None) -> bool:
    stream = sys.stdout if stream is None else stream
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def tokens_shown(pieces: Sequence[str], read: Collection[int], tags: Collection[int], colour: bool) -> str:
    """A prompt's tokens in a row.

    pieces: as the vocabulary spells them. read: indices of those whose logits are read. tags: of those that end a step.
    In colour: read ones on green, tags yellow, every second other one dim. Else: | between tokens, those that are read
    in ⟦ ⟧.
    """
    texts = [visible(piece_text(piece)) for piece in pieces]
    if not colour:
        return "|".join(_bracketed(text) if index in read else text for index, text in enumerate(texts))
    return "".join(
        _painted(text, _READ if index in read else _TAG if index in tags else _OTHER if index % 2 else "")
        for index, text in enumerate(texts)
    )


def visible(text: str) -> str:
    return text.replace("\t", _TAB).replace("\r", "␍").replace("\n", _NEWLINE)


def legend(colour: bool) -> str:
    """What the marks of `tokens_shown` mean, itself marked."""
    if colour:
        return (
            f"{_painted('read', _READ)}  {_painted('step tag', _TAG)}  tokens are by turns bright and {_OTHER}dim{_END}"
        )
    return "tokens stand between |, those that are read in ⟦ ⟧; ↵ is a newline"


def _bracketed(text: str) -> str:
    """A line that ends in the token ends after the bracket."""
    inside = text.replace("\n", "")
    return f"⟦{inside}⟧" + "\n" * (inside != text)


def _painted(text: str, paint: str) -> str:
    """Line by line, so that no colour runs to the end of the terminal's line."""
    return "\n".join(f"{paint}{line}{_END}" if paint and line else line for line in text.split("\n"))
