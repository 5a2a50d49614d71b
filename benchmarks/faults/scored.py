"""`vllm-prm score` as a process, the lines that it is given, and whether what it wrote is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.known import Broken, Known, difference

WAIT_S = 120.0  # for things that take seconds


def wait_for(holds: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Broken(f"no {what} after {seconds:.0f} s")
        time.sleep(0.02)


def command(source: Path | str, url: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "vllm_prm.cli", "score", str(source), "--server", url, *options]


def write_lines(path: Path, many: Sequence[Known], **more: Any) -> None:
    """more: fields of each line beside its own."""
    lines = ({"id": i, "question": one.question, "steps": list(one.steps), **more} for i, one in enumerate(many))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@contextmanager
def scoring(source: Path, output: Path, url: str, *options: str, **process: Any) -> Iterator[subprocess.Popen]:
    """Under way, and ended whatever happens. What it says goes to a file beside its output. process: as Popen."""
    environment = {**os.environ, **process.pop("env", {})}
    with said_by(output).open("w") as said:
        running = subprocess.Popen(
            [*command(source, url, *options), "-o", str(output)], stderr=said, env=environment, **process
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def said_by(output: Path) -> Path:
    return output.with_name(output.name + ".said")


def check_lines(output: Path, many: Sequence[Known]) -> float:
    """The largest difference of what the file has to the reference. Raises Broken if a line is missing or is twice."""
    return check([json.loads(line) for line in output.read_text("utf-8").splitlines()], many)


def check(lines: Sequence[dict[str, Any]], many: Sequence[Known]) -> float:
    """As check_lines, of lines that are read."""
    if (ids := [line["id"] for line in lines]) != list(range(len(many))):
        raise Broken(f"{len(many)} lines in, {len(ids)} out, {len(set(ids))} of them different")
    if errors := [line["error"] for line in lines if "error" in line]:
        raise Broken(f"{len(errors)} lines without scores; the first: {errors[0]}")
    return difference([line["step_scores"] for line in lines], [one.scores for one in many])


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
