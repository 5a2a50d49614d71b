"""Where answers go: a file that a later run goes on with, or standard output.

Knows lines and answers, not how they are made. The invariant: line k of the file answers the k-th line of the input
that is not blank. So after an interruption, of whatever kind, the number of whole lines says where to go on, and
nothing else needs to be written down.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from vllm_prm.cli.answers import Answer, Task
from vllm_prm.errors import EngineError, PRMError, RequestError
from vllm_prm.jsonl import Line

_OTHERWISE = "; so it is not continued. Name another file with -o, or start over with --overwrite"


class ResumeError(PRMError):
    """The output file cannot be continued: it holds something else than the beginning of this run."""


class Output:
    """Answers as JSONL. A context manager; what stops a run inside it gets a note that says how the run can go on.

    path: None is standard output, which then carries answers alone. overwrite: throw away what the file holds, once
    there is an answer to put in its place.
    Entering raises RequestError if the file cannot be written, ResumeError if another process is writing it.
    """

    errors_hint = 'look for "error" in the output'

    def __init__(self, path: Path | None, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._whole = 0  # bytes at the file's beginning that are answers; whatever follows them is cut off
        self._cut = False
        self._stack = ExitStack()
        self._file: BinaryIO

    @property
    def name(self) -> str:
        return "standard output" if self._path is None else str(self._path)

    def __enter__(self) -> Self:
        opened = _clean_stdout() if self._path is None else _locked(self._path)
        self._file = self._stack.enter_context(opened)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Every other PRMError says what to change first, so "the same command" would be wrong advice.
        if error is not None and (isinstance(error, EngineError) or not isinstance(error, PRMError)):
            error.add_note(self._how_to_go_on())
        with self._stack:
            if error is None:
                self._cut_off()

    def earlier(self, lines: Iterator[Line], task: Task) -> Iterator[Answer]:
        """The answers that the file holds already. Takes their lines off `lines`.

        Raises ResumeError at the first one that is not the task's answer to its line.
        """
        if self._path is None or self._overwrite:
            return
        self._file.seek(0)
        for number, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                break  # half a line, cut by the interruption
            line = next(lines, None)
            if line is None:
                raise ResumeError(f"{self._path} has more lines than the input{_OTHERWISE}")
            fields = _checked(f"line {number} of {self._path}", text, line, task)
            self._whole += len(text)
            yield Answer(line, fields)

    def append(self, answer: Answer) -> None:
        """Write an answer; at the end of a batch, make sure that it stays written."""
        self._cut_off()
        self._file.write(encoded(answer.fields))
        if answer.ends_batch:
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())

    def _cut_off(self) -> None:
        if self._path is not None and not self._cut:
            self._file.truncate(self._whole)
            self._cut = True

    def _how_to_go_on(self) -> str:
        if self._path is None:
            return "The lines printed so far are whole; with -o FILE a run can be continued by the same command"
        if self._overwrite and not self._cut:
            return f"{self._path} is as it was"
        again = "the same command without --overwrite" if self._overwrite else "the same command"
        return f"{self._path} is whole up to its last line; {again} goes on from there"


class Unwritten(Output):
    """For answers that are only counted. Standard output stays free of what libraries print there."""

    errors_hint = "with -o FILE, that file says why"

    def __init__(self) -> None:
        super().__init__(None)

    def append(self, answer: Answer) -> None:
        return

    def _how_to_go_on(self) -> str:
        return "Nothing of it was written; with -o FILE a run can be continued by the same command"


def encoded(fields: Mapping[str, Any]) -> bytes:
    """One line of JSONL."""
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair somewhere in the input: JSON can spell it, UTF-8 cannot
        return json.dumps(fields).encode() + b"\n"


def _checked(place: str, text: bytes, line: Line, task: Task) -> dict[str, Any]:
    """The fields of a line of the output, if it is the task's answer to that line of the input."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not ({"scored_by", "error"} & fields.keys()):
        raise ResumeError(f"{place} is not something that this command writes{_OTHERWISE}")
    for name, value in task.repeated_fields(line).items():
        if name not in fields or not _same(fields[name], value):
            raise ResumeError(
                f"{place} belongs to another input: its {name!r} differs from line {line.number}'s{_OTHERWISE}"
            )
    if "scored_by" in fields and not _same(fields["scored_by"], task.made_by):
        raise ResumeError(
            f"{place} was made by {json.dumps(fields['scored_by'])}, "
            f"this run would write {json.dumps(task.made_by)}{_OTHERWISE}"
        )
    return fields


def _same(value: Any, other: Any) -> bool:
    return value == other or json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)  # NaN != NaN


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """A file to read and to append to, created if it is not there, that no other run writes meanwhile."""
    if path.exists() and not path.is_file():
        raise RequestError(f"{path} is no regular file, so it cannot be continued; without -o, answers go to stdout")
    try:
        file = path.open("a+b")
    except OSError as error:
        raise RequestError(f"cannot write {path}: {error.strerror}") from error
    with file:
        _lock(file, path)
        yield file


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not POSIX, where vLLM does not run either
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResumeError(f"another process is writing {path}; wait for it, or name another file with -o") from None


@contextmanager
def _clean_stdout() -> Iterator[BinaryIO]:
    """Standard output, for answers alone: libraries and worker processes print there as they like (Gloo does)."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)
        try:
            yield results
        finally:
            sys.stdout.flush()
            os.dup2(results.fileno(), 1)
