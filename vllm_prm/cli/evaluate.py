"""`vllm-prm evaluate`: a benchmark's files -> the benchmark's metrics."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vllm_prm.cli import options
from vllm_prm.errors import RequestError
from vllm_prm.jsonl import Line

if TYPE_CHECKING:
    from vllm_prm.cli.sources import Source
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
    parser = options.add_command(commands, "evaluate", HELP, ABOUT, EXAMPLES, run)
    parser.add_argument("files", nargs="+", metavar="FILE", help="the benchmark's files")
    parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object instead of a table")
    options.add_output(parser, "keep the step scores here (JSONL)")
    group = parser.add_argument_group("how to measure")
    options.add_threshold(group)
    group.add_argument("--tune-on", metavar="SPLIT", help="ProcessBench: choose the threshold on this split")
    options.add_aggregate(group, "best of N: ")
    options.add_source(parser)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.cli.files import check_paths
    from vllm_prm.cli.sources import chosen_source
    from vllm_prm.evaluate import evaluate, load_benchmark

    check_paths(args.files, args.output, args.overwrite)
    benchmark = load_benchmark(args.files)
    if args.tune_on is not None and args.tune_on not in benchmark.splits:
        raise RequestError(
            f"no split {args.tune_on!r} to choose the threshold on; there are {', '.join(benchmark.splits)}"
        )
    source = chosen_source(args)
    step_scores, status = scored(benchmark, source, args)
    result = evaluate(
        benchmark,
        step_scores,
        threshold=source.recipe.threshold if args.threshold is None else args.threshold,
        tune_on=args.tune_on,
        aggregate=args.aggregate or source.recipe.aggregation,
    )
    print(json.dumps(result.to_dict(), ensure_ascii=False) if args.json else result.table())
    return status


def scored(benchmark: Benchmark, source: Source, args: argparse.Namespace) -> tuple[list[Sequence[float] | None], int]:
    """The step scores of every solution, None where there are none; and the exit status."""
    from vllm_prm.cli.answers import ScoreTask
    from vllm_prm.cli.output import Output, Unwritten
    from vllm_prm.cli.running import run_task

    solutions = benchmark.solutions
    step_scores: list[Sequence[float] | None] = []
    status = run_task(
        ScoreTask(source.recipe, source.made_by, args.aggregate, args.threshold),
        lines_of(solutions),
        source,
        Unwritten() if args.output is None else Output(args.output, args.overwrite),
        total=len(solutions),
        quiet=args.quiet,
        collect=lambda answer: step_scores.append(answer.fields.get("step_scores")),
    )
    return step_scores, status


def lines_of(solutions: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Line]:
    """Solutions as lines to score, as if they had been read."""
    for number, (question, steps) in enumerate(solutions, 1):
        yield Line(number, "", {"question": question, "steps": list(steps)})
