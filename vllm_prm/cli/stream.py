"""Lines in, lines out, in order, a batch at a time. Knows nothing of commands, models or servers.

A batch is written as soon as it is scored, so an interruption costs at most one batch of work, and memory holds one
batch at a time however long the input is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from vllm_prm.cli.lines import Ask, Line
from vllm_prm.cli.output import encoded, kept
from vllm_prm.errors import PRMError, RequestError

ScoreAll = Callable[[list[Ask]], Sequence[Any]]  # one StepScores, or the PRMError in its place, for each


@dataclass
class Job:
    """A line, the solutions to score for it, and why there are none."""

    line: Line
    asks: list[Ask] = field(default_factory=list)
    fault: str | None = None


@dataclass(frozen=True)
class Task:
    """What a command makes of a line.

    asks: the solutions that a line asks about; raises RequestError.
    answer: the fields to add, from the line's solutions and their StepScores.
    ours: every field that `answer` may add, "scored_by" and "error".
    made_by: written to "scored_by" of every line that is answered.
    """

    asks: Callable[[Mapping[str, Any]], list[Ask]]
    answer: Callable[[Mapping[str, Any], list[Ask], list[Any]], Mapping[str, Any]]
    ours: Collection[str]
    made_by: Mapping[str, Any]


def stream(
    lines: Iterable[Line],
    task: Task,
    score: ScoreAll,
    out: BinaryIO,
    batch_size: int,
    advance: Callable[[int], Any] = lambda lines: None,
) -> tuple[int, int]:
    """Answer every line; how many there were, and how many of them got an error instead of an answer.

    batch_size: solutions (not lines) to score at a time. advance: told after each batch how many lines it had.
    """
    done = failed = 0
    for jobs in _batches(lines, task, batch_size):
        results = iter(score([ask for job in jobs for ask in job.asks]))
        outputs = [_output(job, task, [next(results) for _ in job.asks]) for job in jobs]
        out.write(b"".join(map(encoded, outputs)))
        out.flush()
        with suppress(OSError):  # a pipe has nothing to sync
            os.fsync(out.fileno())
        done += len(jobs)
        failed += sum("error" in output for output in outputs)
        advance(len(jobs))
    return done, failed


def _batches(lines: Iterable[Line], task: Task, batch_size: int) -> Iterator[list[Job]]:
    jobs: list[Job] = []
    solutions = 0
    for line in lines:
        job = Job(line, fault=line.fault)
        if line.value is not None:
            try:
                job.asks = task.asks(line.value)
            except RequestError as error:
                job.fault = str(error)
        jobs.append(job)
        solutions += len(job.asks)
        if solutions >= batch_size or len(jobs) >= 4 * batch_size:  # 4: a run of bad lines is written out as well
            yield jobs
            jobs, solutions = [], 0
    if jobs:
        yield jobs


def _output(job: Job, task: Task, results: list[Any]) -> dict[str, Any]:
    fault = job.fault or _fault(job.asks, results)
    rest = kept(job.line, task.ours)
    if fault is not None:
        return {**rest, "error": f"line {job.line.number}: {fault}"}
    return {**rest, **task.answer(rest, job.asks, results), "scored_by": dict(task.made_by)}


def _fault(asks: list[Ask], results: list[Any]) -> str | None:
    for index, ((_, steps), result) in enumerate(zip(asks, results, strict=True)):
        which = f"candidate {index}: " if len(asks) > 1 else ""
        if isinstance(result, PRMError):
            return f"{which}{result}"
        if len(result.step_scores) != len(steps):  # a server that is not ours, or a bug: never a shifted list
            return f"{which}{len(result.step_scores)} scores came back for {len(steps)} steps; nothing was kept of them"
    return None
