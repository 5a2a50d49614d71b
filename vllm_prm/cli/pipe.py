"""What `score` and `rank` share: files or pipes on both sides, going on where an interrupted run stopped, progress."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from vllm_prm.cli.lines import Line, read_lines
from vllm_prm.cli.output import check_done, open_to_continue
from vllm_prm.cli.patience import GivenUp, say
from vllm_prm.cli.scorers import Source
from vllm_prm.cli.stream import Task, stream
from vllm_prm.errors import EngineError, RequestError

NOT_A_TERMINAL_S = 30.0  # between two progress lines in a log file


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="*", metavar="INPUT", help="JSONL files, read one after the other; - is stdin")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where the results go; if it is there already, the run goes on after its last whole line "
        "(default: stdout, which cannot be continued)",
    )
    parser.add_argument("--overwrite", action="store_true", help="start over: throw away what FILE holds")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no closing line")


def run(args: argparse.Namespace, task_of: Callable[[Source], Task]) -> int:
    """Read, score, write; the exit status: 0 if every line has an answer, else 1."""
    inputs = args.input or ["-"]
    check_paths(inputs, args.output, args.overwrite)
    source = Source(args)
    countable = all(name != "-" and Path(name).is_file() for name in inputs)
    counts = through(
        args, source, task_of(source), read_lines(opened(inputs)), _count(inputs) if countable else None, stdout
    )
    return 130 if counts is None else int(counts[1] > 0)  # 128 + SIGINT, as shells count


def through(
    args: argparse.Namespace,
    source: Source,
    task: Task,
    lines: Iterator[Line],
    total: int | None,
    elsewhere: Callable[[], AbstractContextManager[BinaryIO]],
) -> tuple[int, int] | None:
    """Answer `lines` into args.output, going on where it ends, or into `elsewhere` if there is no such file.

    Returns how many lines there are now and how many of them failed; None after Ctrl-C, which has been told.
    Raises PRMError, with what to do, if the server stays away.
    """
    output: Path | None = args.output
    before = failed_before = new = failed = 0
    with ExitStack() as stack:
        if output is not None and output.exists() and not args.overwrite:
            before, failed_before = check_done(output, lines, task.ours, task.made_by)
        first = next(lines, None)
        if first is None:  # nothing left to do: no engine is started for that, only half a last line is cut off
            if output is not None:
                stack.enter_context(_file(output, args.overwrite))
        else:
            out = stack.enter_context(elsewhere() if output is None else _file(output, args.overwrite))
            scorer = stack.enter_context(source.open())
            if before and not args.quiet:
                say(f"{output} has {before:,} lines already; going on after them")
            bar = stack.enter_context(_bar(args.quiet, total, before))
            try:
                new, failed = stream(
                    chain([first], lines), task, source.score_all(scorer), out, source.batch_size, bar.update
                )
            except GivenUp as error:
                raise EngineError(f"{error} {_how_to_resume(output)}") from error
            except KeyboardInterrupt:
                bar.close()
                say(f"interrupted. {_how_to_resume(output)}")
                return None
    done, failed = before + new, failed_before + failed
    if failed:
        say(f'{failed:,} of {done:,} lines have no answer: look for "error" in the output')
    elif not args.quiet:
        say(f"{done:,} lines, all answered" + (f" ({new:,} of them in this run)" if before else ""))
    return done, failed


def _how_to_resume(output: Path | None) -> str:
    if output is None:
        return "The lines printed so far are whole; with -o FILE a run can be continued by the same command"
    return f"{output} is whole up to its last line; the same command goes on from there"


def check_paths(inputs: list[str], output: Path | None, overwrite: bool) -> None:
    for name in inputs:
        path = Path(name)
        if name != "-" and not path.is_file() and not path.is_fifo():
            raise RequestError(f"no file {name!r} to read; expected a JSONL file, or - for stdin")
        if output is not None and output.exists() and name != "-" and path.samefile(output):
            raise RequestError(f"{name} is both input and output; name another file with -o")
    if inputs.count("-") > 1:
        raise RequestError("stdin (-) can be read once only")
    if overwrite and output is None:
        raise RequestError("--overwrite needs -o FILE")
    if output is not None and not output.absolute().parent.is_dir():
        raise RequestError(f"no folder {str(output.parent)!r} to write {output.name} to")
    if inputs == ["-"] and sys.stdin.isatty():
        say("reading lines from the terminal (Ctrl-D ends them)")


def opened(inputs: list[str]) -> Iterator[BinaryIO]:
    for name in inputs:
        if name == "-":
            yield sys.stdin.buffer
        else:
            with open(name, "rb") as file:
                yield file


@contextmanager
def _file(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    with open_to_continue(path) as file:
        if overwrite:
            file.seek(0)
            file.truncate()
        yield file


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Standard output, for results alone: libraries and worker processes print there as they like (Gloo does)."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)
        try:
            yield results
        finally:
            sys.stdout.flush()
            os.dup2(results.fileno(), 1)


@contextmanager
def _bar(quiet: bool, total: int | None, before: int) -> Iterator[Any]:
    from tqdm import tqdm  # type: ignore[import-untyped]

    terminal = sys.stderr.isatty()
    with tqdm(
        total=total,
        initial=before,
        unit=" lines",
        file=sys.stderr,
        disable=quiet,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else NOT_A_TERMINAL_S,
    ) as bar:
        yield bar


def _count(inputs: list[str]) -> int:
    """Lines that are not blank, in all inputs."""
    total = 0
    for name in inputs:
        with open(name, "rb") as file:
            total += sum(1 for raw in file if raw.strip())
    return total
