"""`vllm-prm score` where its surroundings fail: no room for its output, nobody who reads it, an input that grows, a
clock that jumps.

What must hold: whole lines only, a sentence and no traceback, and the same command goes on when there is room again.
All of it asks a server that is well.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from faults.known import Broken, Known
from faults.scored import check, check_lines, command, lines_in, said_by, scoring, wait_for, write_lines

ROOM = 20_000  # bytes of a disk or a file that is soon full: some 40 lines
READ = 3  # lines of those that somebody reads before they go
PIPE = 65_536  # bytes that a pipe holds (pipe(7))
FULL_PIPE_S = 3.0  # that nobody reads
SMALL_BATCHES = ("--batch-size", "4")
# In every Python process that finds it: the wall clock is another one with each look, up to a day ahead or behind.
JUMPS = """
import random, time
_right = time.time
time.time = lambda: _right() + random.uniform(-86400, 86400)
"""


def disk_full(url: str, many: Sequence[Known], folder: Path) -> dict[str, Any]:
    """By a limit on the size of a file; for root, on a file system that is full; with /dev/full as standard output."""
    figures = {"file limit": _full(url, many, folder / "limited.jsonl", preexec_fn=_limit_files)}
    with _small_disk() as small:
        if small is not None:
            figures["full disk"] = _full(url, many, small / "scored.jsonl", room_at=folder / "moved.jsonl")
    source = folder / "full.jsonl"
    write_lines(source, many)
    with open("/dev/full", "w") as full:
        ran = subprocess.run(command(source, url), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    figures["/dev/full"] = _sentence(ran.returncode, ran.stderr, folder)
    return figures


def _full(url: str, many: Sequence[Known], output: Path, room_at: Path | None = None, **process: Any) -> dict[str, Any]:
    """room_at: where there is room, so that the run can go on there."""
    source = (room_at or output).with_suffix(".in.jsonl")
    write_lines(source, many)
    with scoring(source, output, url, *SMALL_BATCHES, **process) as score:
        status = score.wait(120)
    said = _sentence(status, said_by(output).read_text("utf-8"), output.parent)
    written = output.read_bytes()
    if not 0 < (count := written.count(b"\n")) < len(many):
        raise Broken(f"{count} of {len(many)} lines were written: it was not full, so this shows nothing")
    if not written.endswith(b"\n"):
        raise Broken(f"the file ends in half a line: {written[-80:]!r}")
    if room_at is not None:
        room_at.write_bytes(written)
        output = room_at
    with scoring(source, output, url) as score:
        if status := score.wait(120):
            raise Broken(f"with room again it ended with {status}: {said_by(output).read_text('utf-8')[-500:]}")
    return {"lines when full": count, "said": said, "largest difference": check_lines(output, many)}


def _sentence(status: int, said: str, folder: Path) -> str:
    """What a run that had to stop said, without the folder of its files. Raises Broken for a traceback or silence."""
    last = said.strip().splitlines()[-1:] or [""]
    if status != 1 or "Traceback" in said or not last[0].startswith("vllm-prm score: "):
        raise Broken(f"exit status {status}, expected 1 and a sentence: {said[-800:]!r}")
    return last[0].replace(f"{folder}/", "")


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def _small_disk() -> Iterator[Path | None]:
    """A file system of ROOM bytes (whole pages of them); None where this user may not mount one."""
    with TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def pipes(url: str, many: Sequence[Known], folder: Path) -> dict[str, Any]:
    """A reader that waits until the pipe is full and then reads all, and one that goes after a few lines."""
    source = folder / "piped.jsonl"
    write_lines(source, many, note="x" * (4 * PIPE // len(many)))
    slow = subprocess.Popen(command(source, url), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(FULL_PIPE_S)
    out, _ = slow.communicate(timeout=120)
    figures: dict[str, Any] = {"largest difference": check([*map(json.loads, out.splitlines())], many)}
    gone = subprocess.Popen(command(source, url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert gone.stdout is not None
    assert gone.stderr is not None
    read = [json.loads(gone.stdout.readline()) for _ in range(READ)]
    gone.stdout.close()
    said, status = gone.stderr.read(), gone.wait(120)
    gone.stderr.close()
    check(read, many[:READ])
    if "Traceback" in said or status != 1:
        raise Broken(f"a closed pipe ended it with {status}: {said[-800:]!r}")
    return {**figures, "closed pipe": f"exit status {status}"}


def growing_input(url: str, many: Sequence[Known], folder: Path) -> dict[str, Any]:
    """Lines are added while it reads, one of them in half when it comes to the end. Then the rest is added."""
    whole, source, output = folder / "whole.jsonl", folder / "growing.jsonl", folder / "grown.jsonl"
    write_lines(whole, many)
    lines = whole.read_bytes().splitlines(keepends=True)
    half, most = len(lines) // 2, 3 * len(lines) // 4
    source.write_bytes(b"".join(lines[:half]))
    with scoring(source, output, url, "--batch-size", "1") as score:  # it is still reading when the rest comes
        wait_for(lambda: lines_in(output) > 0 or score.poll() is not None, "first lines")
        with source.open("ab") as file:
            file.write(b"".join(lines[half:most]) + lines[most][:40])
        first = score.wait(120)
    if (early := lines_in(output)) <= half or first != 1:
        raise Broken(f"{early} lines and exit status {first}: it did not meet half a line, so this shows nothing")
    with source.open("ab") as file:
        file.write(lines[most][40:] + b"".join(lines[most + 1 :]))
    with scoring(source, output, url) as score:
        if status := score.wait(120):
            raise Broken(f"with the rest there it ended with {status}: {said_by(output).read_text('utf-8')[-600:]}")
    return {"first exit status": first, "lines at first": early, "largest difference": check_lines(output, many)}


def clock_jumps(url: str, many: Sequence[Known], folder: Path) -> dict[str, Any]:
    """By a day with each look, in the process that scores."""
    source, output, site = folder / "jumps.jsonl", folder / "jumped.jsonl", folder / "site"
    write_lines(source, many)
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPS, "utf-8")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    begun = time.monotonic()
    with scoring(source, output, url, *SMALL_BATCHES, env={"PYTHONPATH": path}) as score:
        if status := score.wait(120):
            raise Broken(f"it ended with {status}: {said_by(output).read_text('utf-8')[-600:]}")
    return {"seconds": round(time.monotonic() - begun, 1), "largest difference": check_lines(output, many)}


FAULTS = {
    "disk full": disk_full,
    "pipes": pipes,
    "input grows": growing_input,
    "clock jumps": clock_jumps,
}
