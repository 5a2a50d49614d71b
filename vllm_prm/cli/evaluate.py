"""`vllm-prm evaluate`: a benchmark's files, or labelled steps -> the metrics, and a page of them if wanted."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_prm.cli import options
from vllm_prm.errors import PRMError, RequestError
from vllm_prm.jsonl import Line

if TYPE_CHECKING:
    from vllm_prm.cli.answers import Answer
    from vllm_prm.cli.sources import Source
    from vllm_prm.evaluate import Benchmark, Result
    from vllm_prm.questions import Question

Scores = list[Sequence[float] | PRMError]  # of all solutions, in the order of `benchmark.solutions`

HELP = "measure a PRM on ProcessBench, PRMBench or best-of-N files, or on steps with labels"
ABOUT = """Score a benchmark's solutions and print its metrics. A file's format is known by its first line's fields:

  ProcessBench   {"problem": ..., "steps": [...], "label": index of the first wrong step, or -1}
  PRMBench       {"modified_question": ..., "modified_process": [...], "error_steps": [...], "classification": ...}
  best of N      {"question": ..., "answer": "18", "candidates": [{"steps": [...], "answer": "18"}, ...]}
  PRM800K        {"question": {"problem": ...}, "label": {"steps": [{"completions": [...], ...}, ...]}}
  Math-Shepherd  {"input": question and steps with a tag behind each, "label": the same with + or - for each tag}
  stepwise       {"prompt": ..., "completions": [...], "labels": [true, ...]}   (TRL's form)
  VisualProcessBench  {"image": [...], "question": ..., "response": {"steps": [...], "process_correctness": [1, ...]}}

The last four say of each step whether it is right: accuracy and macro F1 of steps, ROC AUC, calibration, first errors.

Lines of ProcessBench, best of N, stepwise and VisualProcessBench may have "image" or "images": a path below the file's
folder or an address, or several of them.

A file is JSONL or one JSON list. Several files of one format are its splits, named as the files are."""
EXAMPLES = """examples:
  vllm-prm evaluate gsm8k.json math.json olympiadbench.json omnimath.json --model peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm evaluate gsm8k.json math.json --tune-on gsm8k --server http://localhost:8000
  vllm-prm evaluate phase2_test.jsonl --neutral skip --report page.html --server http://localhost:8000
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
    parser.add_argument(
        "--report", type=Path, metavar="PAGE", help="also write every solution and a reliability plot as an HTML page"
    )
    options.add_output(parser, "keep the step scores here (JSONL)")
    add_reading(parser)
    group = parser.add_argument_group("how to measure")
    options.add_threshold(group)
    group.add_argument("--tune-on", metavar="SPLIT", help="ProcessBench: choose the threshold on this split")
    options.add_aggregate(group, "best of N: ")
    options.add_source(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to read the files")
    group.add_argument(
        "--format",
        metavar="NAME",
        help="processbench, prmbench, best-of-n, prm800k, math-shepherd, stepwise or visualprocessbench "
        "(default: by the first line)",
    )
    group.add_argument(
        "--images", type=Path, metavar="FOLDER", help="where the images lie that the files name (beside the file)"
    )
    group.add_argument(
        "--neutral",
        choices=("good", "bad", "skip"),
        help="PRM800K, VisualProcessBench: what a step rated 0 counts as; skip: it is not measured (as the recipe "
        "says; where it does not, as the data's authors count: good, skip)",
    )
    group.add_argument(
        "--all-completions",
        action="store_true",
        help="PRM800K: measure every rated candidate of a step behind the steps before it, not only the chosen path",
    )


def run(args: argparse.Namespace) -> int:
    from vllm_prm.cli.files import check_paths
    from vllm_prm.cli.sources import chosen_source
    from vllm_prm.evaluate import evaluate, load_benchmark

    check_paths(args.files, args.output, args.overwrite)
    check_paths(args.files, args.report)
    if args.report is not None and args.output is not None and args.report.absolute() == args.output.absolute():
        raise RequestError(f"--report and -o both name {args.report}; the page and the scores are two files")
    how = {"format": args.format, "all_completions": args.all_completions, "images": args.images}
    read = partial(load_benchmark, args.files, **how)
    benchmark = read(neutral=args.neutral)
    benchmark.check_tune_on(args.tune_on)
    source = chosen_source(args)
    neutral = benchmark.format.neutral
    if args.neutral is None and neutral is not None and source.recipe.neutral not in (None, neutral):
        benchmark = read(recipe=source.recipe)  # again: a server tells its recipe, and is asked once files are right
    scores, status = scored(benchmark, source, args)
    result = evaluate(
        benchmark,
        scores,
        threshold=source.recipe.threshold if args.threshold is None else args.threshold,
        tune_on=args.tune_on,
        aggregate=args.aggregate or source.recipe.aggregation,
    )
    if args.report is not None:
        write_page(benchmark, scores, result, source, args)
    print(json.dumps(result.to_dict(), ensure_ascii=False) if args.json else result.table())
    return status


def write_page(benchmark: Benchmark, scores: Scores, result: Result, source: Source, args: argparse.Namespace) -> None:
    from vllm_prm.report import benchmark_rows, write_report

    write_report(
        args.report,
        benchmark_rows(benchmark, scores),
        title=f"{benchmark.format.name}: {', '.join(benchmark.splits)}",
        subtitle=" ".join(f"{name} {value}" for name, value in source.made_by.items()),
        aggregation=args.aggregate or source.recipe.aggregation,
        threshold=result.to_dict().get("threshold", args.threshold),  # its own, if it chose one
    )


def scored(benchmark: Benchmark, source: Source, args: argparse.Namespace) -> tuple[Scores, int]:
    """The step scores of every solution, or why it has none; and the exit status."""
    from vllm_prm.cli.answers import ScoreTask
    from vllm_prm.cli.output import Output, Unwritten
    from vllm_prm.cli.running import run_task
    from vllm_prm.evaluate.pictures import with_content
    from vllm_prm.lines import Solution

    class BenchmarkTask(ScoreTask):
        """Its lines name images by paths; they are read for the batch that is scored, and stay paths in the output."""

        def solutions(self, fields: Mapping[str, Any]) -> list[Solution]:
            return [(with_content(question), steps) for question, steps in super().solutions(fields)]

    solutions = benchmark.solutions
    scores: Scores = []

    def collect(answer: Answer) -> None:
        scores.append(answer.fields["step_scores"] if answer.error is None else RequestError(answer.error))

    status = run_task(
        BenchmarkTask(source.recipe, source.made_by, args.aggregate, args.threshold),
        lines_of(solutions),
        source,
        Unwritten() if args.output is None else Output(args.output, args.overwrite),
        total=len(solutions),
        quiet=args.quiet,
        collect=collect,
    )
    return scores, status


def lines_of(solutions: Iterable[tuple[Question, Sequence[str]]]) -> Iterator[Line]:
    """Solutions as lines to score, as if they had been read."""
    for number, (question, steps) in enumerate(solutions, 1):
        yield Line(number, "", {"question": question, "steps": list(steps)})
