"""A run: lines and a task in, answers out, by a source. What `score`, `rank` and `evaluate` share.

Puts the other rooms together and decides nothing of theirs. The invariant: nothing is started before the command line
is known to be right, and no engine for lines that have their answers already.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from vllm_prm.cli.answers import Answer, Task, answers
from vllm_prm.cli.files import check_paths, line_count, opened
from vllm_prm.cli.output import Output
from vllm_prm.cli.progress import progress_bar, say
from vllm_prm.cli.sources import Source, chosen_source
from vllm_prm.jsonl import Line, read_lines


def run_files(args: argparse.Namespace, make_task: Callable[[Source], Task]) -> int:
    """Answer the lines of the files that the options name; the exit status. For `score` and `rank`."""
    check_paths(args.input, args.output, args.overwrite)
    source = chosen_source(args)
    task = make_task(source)
    lines, output = read_lines(opened(args.input)), Output(args.output, args.overwrite)
    return run_task(task, lines, source, output, total=line_count(args.input), quiet=args.quiet)


def run_task(
    task: Task,
    lines: Iterator[Line],
    source: Source,
    output: Output,
    *,
    total: int | None,
    quiet: bool,
    collect: Callable[[Answer], Any] = lambda answer: None,
) -> int:
    """Answer `lines` into `output`, after the answers that it holds already; the exit status, 1 if a line has none.

    total: how many lines there are, if that is known. collect: is called with every answer, the earlier ones too.
    The source is opened only if a line is left to answer.
    """
    counts = _Counts()
    with output:
        for answer in output.earlier(lines, task):
            counts.add(answer)
            collect(answer)
        earlier, first = counts.answers, next(chain(output.half_read, lines), None)
        if first is not None:
            if earlier and not quiet:
                say(f"{output.name} has {earlier:,} lines already; going on after them")
            with source.open() as score, progress_bar(quiet, total, earlier) as bar:
                for answer in answers(chain([first], lines), task, score, source.batch_size):
                    output.append(answer)
                    counts.add(answer)
                    collect(answer)
                    bar.update()
    if counts.errors:
        say(f"{counts.errors:,} of {counts.answers:,} lines could not be scored: {output.errors_hint}")
    elif not quiet:
        new = f" ({counts.answers - earlier:,} of them in this run)" if earlier else ""
        say(f"{counts.answers:,} lines, all scored{new}")
    return int(counts.errors > 0)


@dataclass
class _Counts:
    """How many answers there are, and how many of them are errors."""

    answers: int = 0
    errors: int = 0

    def add(self, answer: Answer) -> None:
        self.answers += 1
        self.errors += answer.error is not None
