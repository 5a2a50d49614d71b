"""`vllm-prm evaluate`: a benchmark's files -> the benchmark's metrics."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vllm_prm.cli import pipe, scorers
from vllm_prm.cli.lines import Line
from vllm_prm.cli.score import task
from vllm_prm.cli.scorers import Source
from vllm_prm.errors import RequestError

if TYPE_CHECKING:
    from vllm_prm.evaluate import Benchmark

HELP = "measure a PRM on ProcessBench, PRMBench or best-of-N files"
ABOUT = """Score a benchmark's solutions and print its metrics. A file's format is known by its first line's fields:

  ProcessBench   {"problem": ..., "steps": [...], "label": index of the first wrong step, or -1}
  PRMBench       {"modified_question": ..., "modified_process": [...], "error_steps": [...], "classification": ...}
  best of N      {"question": ..., "answer": "18", "candidates": [{"steps": [...], "answer": "18"}, ...]}

A file is JSONL or one JSON list. Several files of one format are its splits, named as the files are."""
EXAMPLES = """examples:
  vllm-prm evaluate gsm8k.json math.json olympiadbench.json omnimath.json --model peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm evaluate gsm8k.json math.json --tune-on gsm8k --server http://localhost:8000
  vllm-prm evaluate prmbench.jsonl -o scores.jsonl --json --server http://localhost:8000
  vllm-prm evaluate candidates.jsonl --aggregate product --model ./my-prm -- --dtype bfloat16

With -o FILE the step scores are kept, one line a solution, and an interrupted run goes on there; typed again after
the last line, the same command only computes the metrics, without starting an engine.

exit status: 0 every solution was scored; 1 some were not (the table says how they count), or the run had to stop;
2 the command line or a file is wrong"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", help=HELP, description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="the benchmark's files")
    parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object instead of a table")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="keep the step scores here (JSONL)")
    parser.add_argument("--overwrite", action="store_true", help="start over: throw away what -o FILE holds")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no closing line")
    group = parser.add_argument_group("how to measure")
    group.add_argument("--threshold", type=float, default=0.5, metavar="T", help="below this a step is wrong (0.5)")
    group.add_argument("--tune-on", metavar="SPLIT", help="ProcessBench: choose the threshold on this split")
    group.add_argument(
        "--aggregate", type=scorers.aggregation, metavar="HOW", help="best of N: min, product, mean, last or sum_log"
    )
    scorers.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.evaluate import evaluate, load_benchmark

    pipe.check_paths(args.files, args.output, args.overwrite)
    benchmark = load_benchmark(args.files)
    if args.tune_on is not None and args.tune_on not in benchmark.splits:
        raise RequestError(
            f"no split {args.tune_on!r} to choose the threshold on; there are {', '.join(benchmark.splits)}"
        )
    source = Source(args)
    kept = io.BytesIO()
    counts = pipe.through(
        args,
        source,
        task(source, None, args.aggregate, args.threshold),
        lines(benchmark),
        len(benchmark.solutions),
        lambda: nowhere(kept),
    )
    if counts is None:
        return 130  # 128 + SIGINT, as shells count
    written = kept.getvalue() if args.output is None else args.output.read_bytes()
    scores = [json.loads(line).get("step_scores") for line in written.splitlines()]
    result = evaluate(
        benchmark,
        scores,
        threshold=args.threshold,
        tune_on=args.tune_on,
        aggregate=args.aggregate or source.recipe.aggregation,
    )
    print(json.dumps(result.to_dict(), ensure_ascii=False) if args.json else result.table())
    return int(counts[1] > 0)


def lines(benchmark: Benchmark) -> Iterator[Line]:
    """The benchmark's solutions as lines to score."""
    for number, (question, steps) in enumerate(benchmark.solutions, 1):
        yield Line(number, "", {"question": question, "steps": list(steps)})


@contextmanager
def nowhere(kept: io.BytesIO) -> Iterator[BinaryIO]:
    """A place for the scores when no file is named; stdout stays free of what libraries print."""
    out: AbstractContextManager[BinaryIO] = pipe.stdout()
    with out:
        yield kept
