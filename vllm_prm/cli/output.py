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


class WriteError(PRMError):
    """There is no room for the output, or its disk fails. What is written stays."""


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
        self._batch: list[bytes] = []
        self._stack = ExitStack()
        self.half_read: list[Line] = []  # what `earlier` took off the input and found no answer to
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
        if error is not None and (isinstance(error, EngineError | WriteError) or not isinstance(error, PRMError)):
            error.add_note(self._how_to_go_on(error))
        with self._stack:
            if error is None:
                self._cut_off()
            self._write_batch()  # an interruption may come in the middle of one

    def earlier(self, lines: Iterator[Line], task: Task) -> Iterator[Answer]:
        """The answers that the file holds already. Takes their lines off `lines`.

        The last of them may be the error of half a line, of an input that was still being written: its line is whole
        now and goes to `half_read`. Raises ResumeError at the first one that is not the task's answer to its line.
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
            fields = _parsed(f"line {number} of {self._path}", text)
            if _is_of_half(fields, line) and not self._file.readline().endswith(b"\n"):
                self.half_read.append(line)
                return
            _check(f"line {number} of {self._path}", fields, line, task)
            self._whole += len(text)
            yield Answer(line, fields)

    def append(self, answer: Answer) -> None:
        """Take an answer; at the end of a batch, write it and make sure that it stays written. Raises WriteError."""
        self._cut_off()
        self._batch.append(encoded(answer.fields))
        if answer.ends_batch:
            self._write_batch()

    def _write_batch(self) -> None:
        """In one go, past the file's own buffer, which would try again what could not be written when it is closed."""
        left, self._batch = b"".join(self._batch), []
        if not left:
            return
        number, wrote = self._file.fileno(), 0
        begin = os.fstat(number).st_size
        try:
            while wrote < len(left):
                wrote += os.write(number, left[wrote:])
            if self._path is not None:
                os.fsync(number)
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError as error:
            if self._path is not None:  # the lines that are whole stay
                os.ftruncate(number, begin + left.rfind(b"\n", 0, wrote) + 1)
            raise WriteError(f"cannot write {self.name}: {error.strerror}.") from error

    def _cut_off(self) -> None:
        if self._path is not None and not self._cut:
            self._file.truncate(self._whole)
            self._cut = True

    def _how_to_go_on(self, error: BaseException) -> str:
        if self._path is None:
            so_far = (
                "The last line may be cut" if isinstance(error, WriteError) else "The lines printed so far are whole"
            )
            return f"{so_far}; with -o FILE a run can be continued by the same command"
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

    def _how_to_go_on(self, error: BaseException) -> str:
        return "Nothing of it was written; with -o FILE a run can be continued by the same command"


def encoded(fields: Mapping[str, Any]) -> bytes:
    """One line of JSONL."""
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair somewhere in the input: JSON can spell it, UTF-8 cannot
        return json.dumps(fields).encode() + b"\n"


def _parsed(place: str, text: bytes) -> dict[str, Any]:
    """The fields of a line of the output. Raises ResumeError if it is no answer."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not ({"scored_by", "error"} & fields.keys()):
        raise ResumeError(f"{place} is not something that this command writes{_OTHERWISE}")
    return fields


def _is_of_half(fields: Mapping[str, Any], line: Line) -> bool:
    """Whether the answer is the error of a line that was only the beginning of what it is now."""
    if fields.keys() != {"line", "error"}:
        return False
    half = str(fields["line"])
    return len(half) < len(line.text) and line.text.startswith(half)


def _check(place: str, fields: Mapping[str, Any], line: Line, task: Task) -> None:
    """Raises ResumeError if these are not the task's answer to that line of the input."""
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
