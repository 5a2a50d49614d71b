"""Pieces of work, each in a process of its own with a time limit, and one JSON document of what became of them.

The document is written after each piece, so a run that is interrupted goes on with the pieces that are missing. A piece
that crashes or hangs is recorded with its error, and the next one runs. Nothing here knows what a piece does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PASSED, FAILED, CRASHED, TIMED_OUT, NOT_POSSIBLE = "passed", "failed", "crashed", "timed out", "not possible here"
TAIL = 2_000  # characters of a piece's output that are kept as its error: the last lines of a traceback
INTERRUPT_S = 5.0  # for a process to end by itself before it is killed

Document = dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """command: the path of a file for the piece's own answer, a JSON object, is added as its last argument.

    An answer with a text `not_possible` says why this machine cannot run the piece; one with
    a text `failed` says what was found to be wrong. limit_s: seconds after which its processes are killed.
    """

    name: str
    command: Sequence[str]
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)


class OtherMachine(Exception):
    """The document on disk is of another machine or another software: its results must not be mixed with new ones."""


def load(path: Path, machine: Mapping[str, Any], again: bool) -> Document:
    """The document to go on with: that in `path`, or an empty one for `machine`. Raises OtherMachine."""
    if again or not path.exists():
        return {"machine": dict(machine), "pieces": {}}
    document = json.loads(path.read_text("utf-8"))
    differing = [name for name, value in machine.items() if document["machine"].get(name) != value]
    if differing:
        before = ", ".join(f"{name} {document['machine'].get(name)}" for name in differing)
        now = ", ".join(f"{name} {machine[name]}" for name in differing)
        raise OtherMachine(f"{path} has results of {before}, and this is {now}: give --again to replace them")
    return document


def store(path: Path, document: Document) -> None:
    """Whole or not at all: an interrupted run leaves the document of before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    new.replace(path)


def missing(pieces: Sequence[Piece], document: Document) -> list[Piece]:
    """The pieces that have no result yet. One that failed has one: it is run again by its name, or all with --again."""
    return [piece for piece in pieces if piece.name not in document["pieces"]]


def run_all(
    pieces: Sequence[Piece],
    path: Path,
    document: Document,
    stamp: Mapping[str, Any],
    limit_s: float | None,
    tell: Callable[[str], None],
) -> list[Piece]:
    """Run `pieces` in turn, storing the document after each; returns those for which limit_s seconds left no room.

    stamp: goes into every result, for example the commit. Raises ValueError if limit_s is too short for one of them.
    """
    longest = max((piece.limit_s for piece in pieces), default=0.0)
    if limit_s is not None and limit_s < longest:
        raise ValueError(f"a piece may take {longest:.0f} s, so a limit of {limit_s:.0f} s would never reach it")
    start = time.monotonic()
    for number, piece in enumerate(pieces):
        if limit_s is not None and time.monotonic() - start + piece.limit_s > limit_s:
            return list(pieces[number:])
        tell(f"{piece.name} ({number + 1} of {len(pieces)}, at most {piece.limit_s:.0f} s)")
        result = {**run(piece), **stamp}
        document["pieces"][piece.name] = result
        store(path, document)
        tell(f"    {result['outcome']} after {result['seconds']:.0f} s {last_line(result)}")
    return []


def last_line(result: Mapping[str, Any]) -> str:
    """The reason in one line, a traceback's last; "" if there is none."""
    lines = str(result.get("why", "")).strip().splitlines()
    return lines[-1][:300] if lines else ""


def run(piece: Piece, log: Path | None = None) -> dict[str, Any]:
    """What became of one piece: outcome, seconds, date, its `answer`, and `why` unless it passed.

    log: where its output stays; None: nowhere.
    """
    with TemporaryDirectory(prefix="vllm-prm-piece-") as folder:
        answer_file, log = Path(folder) / "answer.json", log or Path(folder) / "log"
        start = time.monotonic()
        status = _status(piece, [*piece.command, str(answer_file)], log)
        seconds = round(time.monotonic() - start, 1)
        answer = json.loads(answer_file.read_text("utf-8")) if answer_file.exists() else None
        said = log.read_text("utf-8", errors="replace")[-TAIL:]
    outcome, why = _outcome(status, answer, said, piece.limit_s)
    result = {"outcome": outcome, "seconds": seconds, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return result | ({"why": why} if why else {}) | ({"answer": answer} if answer else {})


def _outcome(status: int | None, answer: Any, said: str, limit_s: float) -> tuple[str, str]:
    """Outcome and reason. status: of the process, None if it was killed at its limit."""
    if status is None:
        return TIMED_OUT, f"{said}\nkilled after {limit_s:.0f} s"
    if status != 0 or not isinstance(answer, dict):
        return CRASHED, f"{said}\nexit status {status}" + ("" if status else ", and no answer")
    if "not_possible" in answer:
        return NOT_POSSIBLE, answer["not_possible"]
    return (FAILED, answer["failed"]) if "failed" in answer else (PASSED, "")


def _status(piece: Piece, command: Sequence[str], log: Path) -> int | None:
    """Exit status; None if the limit came first. On the way out none of its processes is left, on Ctrl-C either."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **piece.environment},
            start_new_session=True,  # a group of its own, so that engines that it started go with it
        )
        try:
            return process.wait(piece.limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    """End the process and all that it started. What it started may outlive it, and would keep the GPU's memory."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        if number == signal.SIGINT:
            with suppress(subprocess.TimeoutExpired):
                process.wait(INTERRUPT_S)
    process.wait()
