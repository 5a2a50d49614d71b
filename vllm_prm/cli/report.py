"""`vllm-prm report`: scored lines -> one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_prm.cli import options
from vllm_prm.errors import RequestError
from vllm_prm.jsonl import Line, read_lines
from vllm_prm.lines import QUESTION, solution
from vllm_prm.questions import Question, checked_question
from vllm_prm.recipes.types import FIRST_ERROR_THRESHOLD

if TYPE_CHECKING:
    from vllm_prm.report import ReportRow

HELP = "write scored solutions as one HTML page"
ABOUT = """Write the output of `vllm-prm score` as one HTML page, which needs no server and no network to be read.
A "label" (ProcessBench: index of the first wrong step, -1 for none) is shown beside the scores, if lines have one."""
EXAMPLES = """examples:
  vllm-prm report scored.jsonl -o report.html
  vllm-prm score solutions.jsonl --server http://localhost:8000 | vllm-prm report - -o report.html

exit status: 0; 1 some lines have no step scores (the page names them); 2 the command line is wrong"""


def add_parser(commands: Any) -> None:
    parser = options.add_command(commands, "report", HELP, ABOUT, EXAMPLES, run)
    options.add_inputs(parser, "output of `vllm-prm score`; - is stdin")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.add_argument("--title", default="Step scores", help="the page's title")
    options.add_threshold(parser)
    options.add_aggregate(parser)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.cli.files import check_paths, opened
    from vllm_prm.report import write_report

    check_paths(args.input, args.output)
    lines = list(read_lines(opened(args.input)))
    if not lines:
        raise RequestError(f"no lines in {', '.join(args.input)}; expected the output of `vllm-prm score`")
    rows = [row(line) for line in lines]
    made_by = scored_by(lines)
    write_report(
        args.output,
        rows,
        title=args.title,
        subtitle=" ".join(f"{name} {value}" for name, value in made_by.items() if name in ("model", "recipe")),
        aggregation=args.aggregate or made_by.get("aggregate"),
        threshold=_threshold(args, made_by),
    )
    unscored = sum(isinstance(shown.scores, RequestError) for shown in rows)
    print(
        f"{args.output}: {len(rows):,} solutions" + (f", {unscored:,} without scores" if unscored else ""),
        file=sys.stderr,
    )
    return int(unscored > 0)


def _threshold(args: argparse.Namespace, made_by: dict[str, Any]) -> float:
    """The one asked for, or the one that the scores were judged by."""
    asked, used = args.threshold, made_by.get("threshold")
    return float(next((value for value in (asked, used) if isinstance(value, int | float)), FIRST_ERROR_THRESHOLD))


def scored_by(lines: list[Line]) -> dict[str, Any]:
    """What made the scores, as the first line says that has any; empty if none says it."""
    values = [line.value["scored_by"] for line in lines if line.value is not None and "scored_by" in line.value]
    return next((value for value in values if isinstance(value, dict)), {})


def row(line: Line) -> ReportRow:
    """A line as the page shows it: its scores, or why it has none."""
    from vllm_prm.evaluate.solutions import labels_to_first_error
    from vllm_prm.report import ReportRow

    fields = line.value or {}
    label = str(fields.get("id", f"line {line.number}"))
    try:
        question, steps, scores = scored(line)
    except RequestError as error:
        listed = fields["steps"] if isinstance(fields.get("steps"), list) else []
        return ReportRow(_question(line), [step for step in listed if isinstance(step, str)], error, label)
    wrong = fields.get("label")
    if type(wrong) is not int:
        return ReportRow(question, steps, scores, label)
    first_error = wrong if wrong >= 0 else None
    known_wrong = [] if first_error is None else [first_error]
    known = labels_to_first_error(len(steps), first_error)
    return ReportRow(question, steps, scores, label, wrong=known_wrong, labels=known)


def _question(line: Line) -> Question:
    """Of a line that may hold anything: its question, or else all of the line."""
    fields = line.value or {}
    try:
        return checked_question(next(fields[name] for name in QUESTION if name in fields))
    except (RequestError, StopIteration):
        return line.text


def scored(line: Line) -> tuple[Question, list[str], list[float]]:
    """Question, steps and step scores of a line. Raises RequestError that says why there are none."""
    if line.value is None:
        raise RequestError(line.fault or "")
    if "error" in line.value:
        raise RequestError(str(line.value["error"]))
    question, steps = solution(line.value, lambda text: [text])
    scores = line.value.get("step_scores")
    if not isinstance(scores, list) or not all(type(score) in (int, float) for score in scores):
        raise RequestError('no "step_scores"; `vllm-prm score` adds them')
    if len(scores) != len(steps):
        raise RequestError(f"{len(steps)} steps and {len(scores)} step scores; was the line changed after scoring?")
    return question, steps, scores
