"""Measuring many architectures: a worker process for each batch, a row in the file of results for each architecture.

Knows nothing of what is measured. A process that dies or hangs costs one architecture: its row says so, and the next
process goes on behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sweep.rows import Row, append
from sweep.worker import RESTART, one_line

LIMIT_S = 120  # for one architecture: engine, weights, prompts


def record(measure: str, architectures: list[str], size: int, path: Path, summary: Callable[[Row], str]) -> None:
    """Measure `architectures`, `size` per process; append their rows to `path`, print `summary` of each."""
    from tqdm import tqdm

    with tqdm(total=len(architectures), unit="architecture") as bar:
        for row in _measured(measure, architectures, size):
            append(path, row)
            bar.update()
            tqdm.write(summary(row))


def _measured(measure: str, architectures: list[str], size: int) -> Iterator[Row]:
    while architectures:
        batch = architectures[:size]
        command = [sys.executable, "-m", "sweep.worker", measure, *batch]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            count = 0
            for row in _rows_of(process):
                count += 1
                yield row
            if count < len(batch) and process.wait() != RESTART:
                log.seek(0)
                yield _row_of_a_death(batch[count], process.returncode, log.read())
                count += 1
        architectures = architectures[count:]


def _rows_of(process: subprocess.Popen) -> Iterator[Row]:
    """The rows that a worker prints, until it ends or takes longer than LIMIT_S for one."""
    assert process.stdout is not None
    while True:
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line:
            return
        if line.startswith('{"architecture"'):  # vLLM prints lines of its own
            yield json.loads(line)


def _row_of_a_death(architecture: str, status: int, log: str) -> Row:
    from vllm import __version__

    why = f"its process ended with {status}: {one_line(log)[-300:]}"
    return {"architecture": architecture, "vllm": __version__, "outcome": "stopped", "why": why}
