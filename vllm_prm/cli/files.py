"""The files that a command line names: checked before anything is started, opened one after the other, counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from vllm_prm.cli.progress import say
from vllm_prm.errors import RequestError

STDIN = "-"


def check_paths(inputs: Sequence[str], output: Path | None, overwrite: bool = False) -> None:
    """Raise RequestError for a file that is not there, and for files that cannot be used together."""
    for name in inputs:
        path = Path(name)
        if name != STDIN and not path.is_file() and not path.is_fifo():
            raise RequestError(f"no file {name!r} to read; expected a JSONL file, or - for stdin")
        if output is not None and output.exists() and name != STDIN and path.samefile(output):
            raise RequestError(f"{name} is both input and output; name another file with -o")
    if list(inputs).count(STDIN) > 1:
        raise RequestError("stdin (-) can be read once only")
    if overwrite and output is None:
        raise RequestError("--overwrite needs -o FILE")
    if output is not None and not output.absolute().parent.is_dir():
        raise RequestError(f"no folder {str(output.parent)!r} to write {output.name} to")
    if list(inputs) == [STDIN] and sys.stdin.isatty():
        say("reading lines from the terminal (Ctrl-D ends them)")


def opened(inputs: Sequence[str]) -> Iterator[BinaryIO]:
    """Each input in turn, closed when the next one is asked for. Raises RequestError if it cannot be opened."""
    for name in inputs:
        if name == STDIN:
            yield sys.stdin.buffer
        else:
            with _opened(name) as file:
                yield file


def line_count(inputs: Sequence[str]) -> int | None:
    """Lines that are not blank, in all inputs together; None if one of them can be read only once."""
    if not all(name != STDIN and Path(name).is_file() for name in inputs):
        return None
    return sum(1 for file in opened(inputs) for text in file if text.strip())


def _opened(name: str) -> BinaryIO:
    try:
        return open(name, "rb")
    except OSError as error:
        raise RequestError(f"cannot read {name}: {error.strerror}") from error
