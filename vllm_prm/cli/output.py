"""The output file: what is already in it, whether that belongs to this input, and appending to it.

The invariant: line k of the output answers the k-th line of the input that is not blank. So after an interruption,
of whatever kind, the number of complete lines says where to go on, and nothing else needs to be kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from vllm_prm.cli.lines import Line
from vllm_prm.errors import PRMError

CHUNK = 1 << 20  # bytes read at a time while looking for the last line end


class ResumeError(PRMError):
    """The output file cannot be continued: it holds something else than the beginning of this run."""


def encoded(value: Mapping[str, Any]) -> bytes:
    """One line of JSONL."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair somewhere in the input: JSON can spell it, UTF-8 cannot
        return json.dumps(value).encode() + b"\n"


def kept(line: Line, ours: Collection[str]) -> dict[str, Any]:
    """What the output repeats of a line: its fields, without those that an earlier run or another tool wrote there."""
    if line.value is None:
        return {"line": line.text}
    return {name: value for name, value in line.value.items() if name not in ours}


def check_done(path: Path, lines: Iterator[Line], ours: Collection[str], made_by: Mapping[str, Any]) -> tuple[int, int]:
    """Take as many of `lines` as `path` has complete lines; how many those are, and how many of them failed.

    ours: the fields that the command writes, so all others must be equal; made_by: what "scored_by" must say.
    Raises ResumeError at the first line of the file that is not the answer to its line of the input.
    """
    done = errors = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break  # half a line, cut by the interruption
            line = next(lines, None)
            if line is None:
                raise ResumeError(f"{path} has more lines than the input{_OTHERWISE}")
            errors += _check(f"line {done + 1} of {path}", raw, line, ours, made_by)
            done += 1
    return done, errors


def _check(where: str, raw: bytes, line: Line, ours: Collection[str], made_by: Mapping[str, Any]) -> bool:
    """True if this line of the output says that its line of the input failed."""
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not ({"scored_by", "error"} & found.keys()):
        raise ResumeError(f"{where} is not something that this command writes{_OTHERWISE}")
    for name, value in kept(line, ours).items():
        if name not in found or not _same(found[name], value):
            raise ResumeError(
                f"{where} belongs to another input: its {name!r} differs from line {line.number}'s{_OTHERWISE}"
            )
    if "scored_by" in found and not _same(found["scored_by"], made_by):
        raise ResumeError(
            f"{where} was made by {json.dumps(found['scored_by'])}, "
            f"this run would write {json.dumps(made_by)}{_OTHERWISE}"
        )
    return "error" in found


_OTHERWISE = "; so it is not continued. Name another file with -o, or start over with --overwrite"


def _same(one: Any, other: Any) -> bool:
    return one == other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # NaN is not itself


def open_to_continue(path: Path) -> BinaryIO:
    """`path`, created if it is not there, with half a last line cut off, at its end.

    Raises ResumeError if another process writes it.
    """
    file = open(path, "r+b" if path.exists() else "x+b")  # noqa: SIM115 - the caller closes it
    _lock(file, path)
    file.truncate(_end_of_last_line(file))
    file.seek(0, os.SEEK_END)
    return file


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - CHUNK)
        file.seek(start)
        if (at := file.read(end - start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not POSIX, where vLLM does not run either
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ResumeError(f"another process is writing {path}; wait for it, or name another file with -o") from None
