"""`vllm-prm report`: scored lines -> one HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_prm.cli import pipe, scorers
from vllm_prm.cli.lines import Line, read_lines, solution
from vllm_prm.errors import RequestError

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
    parser = commands.add_parser(
        "report", help=HELP, description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", nargs="*", metavar="INPUT", help="output of `vllm-prm score`; - is stdin")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.add_argument("--title", default="Step scores", help="the page's title")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="T", help="below this a step is wrong (0.5)")
    parser.add_argument(
        "--aggregate", type=scorers.aggregation, metavar="HOW", help="min, product, mean, last or sum_log"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.report import write_report

    inputs = args.input or ["-"]
    pipe.check_paths(inputs, args.output, False)
    lines = list(read_lines(pipe.opened(inputs)))
    if not lines:
        raise RequestError(f"no lines in {', '.join(inputs)}; expected the output of `vllm-prm score`")
    rows = [row(line) for line in lines]
    told = [line.value["scored_by"] for line in lines if line.value and isinstance(line.value.get("scored_by"), dict)]
    made_by: dict[str, Any] = told[0] if told else {}
    write_report(
        args.output,
        rows,
        title=args.title,
        subtitle=" ".join(f"{name} {value}" for name, value in made_by.items() if name in ("model", "recipe")),
        aggregation=args.aggregate or made_by.get("aggregate"),
        threshold=args.threshold,
    )
    without = sum(isinstance(one.scores, RequestError) for one in rows)
    print(
        f"{args.output}: {len(rows):,} solutions" + (f", {without:,} without scores" if without else ""),
        file=sys.stderr,
    )
    return int(without > 0)


def row(line: Line) -> ReportRow:
    """A line as the page shows it: its scores, or why it has none."""
    from vllm_prm.report import ReportRow

    value = line.value or {}
    label = str(value.get("id", f"line {line.number}"))
    try:
        if line.fault is not None or "error" in value:
            raise RequestError(line.fault or str(value["error"]))
        question, steps = solution(value, lambda text: [text])
        scores = value.get("step_scores")
        if not isinstance(scores, list) or not all(type(score) in (int, float) for score in scores):
            raise RequestError('no "step_scores"; `vllm-prm score` adds them')
        if len(scores) != len(steps):
            raise RequestError(f"{len(steps)} steps and {len(scores)} step scores; was the line changed after scoring?")
    except RequestError as error:
        texts = (
            [step for step in value["steps"] if isinstance(step, str)] if isinstance(value.get("steps"), list) else []
        )
        question = value.get("question", value.get("problem", line.text))
        return ReportRow(question if isinstance(question, str) else line.text, texts, error, label)
    wrong = value.get("label")
    known = None if type(wrong) is not int else [wrong] if wrong >= 0 else []
    return ReportRow(question, steps, scores, label, wrong=known)
