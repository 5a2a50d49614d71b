"""`vllm-prm score`: a solution a line -> the same line with its step scores."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from vllm_prm.cli import pipe, scorers
from vllm_prm.cli.lines import Ask, solution
from vllm_prm.cli.scorers import Source
from vllm_prm.cli.stream import Task

HELP = "score solutions: JSONL in, JSONL out"
ABOUT = """Score every step of every solution. Each line of the input is one solution:

  {"question": "Mia has 12 apples. She buys 5. ...", "steps": ["Step 1: 12 + 5 = 17", "Step 2: ..."]}
  {"question": "...", "solution": "Step 1: 12 + 5 = 17\\nStep 2: ..."}     split into steps as the recipe splits
  {"problem": "...", "steps": [...], "label": 2, ...}                      ProcessBench; other fields are kept

Each line of the output, in the same order, is that line plus

  step_scores   one number in [0, 1] for each step
  score         all of them as one number (--aggregate; the recipe says how if you do not)
  first_error   index, from 0, of the first step below --threshold; null if there is none
  scored_by     model, recipe, aggregation and threshold that made these numbers
  steps         if the line had a "solution": its steps
  probabilities or logits ([steps][scoring tokens]) and labels (what those are), with --return

A line that cannot be scored comes out with "error" (what was found, what to do) instead; all others are scored."""
EXAMPLES = """examples:
  vllm-prm score solutions.jsonl -o scored.jsonl --model peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm score solutions.jsonl -o scored.jsonl --server http://localhost:8000
  vllm-prm score a.jsonl b.jsonl -o scored.jsonl --model ./my-prm --recipe math-shepherd -- --dtype bfloat16
  generate | vllm-prm score --server http://localhost:8000 | jq .first_error

After an interruption of any kind, type the same command again: it goes on after the last whole line of -o FILE,
once it has seen that the lines there answer this input and come from the same model and options.

Everything after -- goes to vLLM's engine, spelled as for `vllm serve`.

exit status: 0 every line was scored; 1 some were not, or the run had to stop; 2 the command line is wrong"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score", help=HELP, description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pipe.add_options(parser)
    group = parser.add_argument_group("what to write")
    group.add_argument("--return", dest="more", choices=("probabilities", "logits"), help="write these as well")
    group.add_argument(
        "--aggregate", type=scorers.aggregation, metavar="HOW", help="min, product, mean, last or sum_log"
    )
    group.add_argument("--threshold", type=float, default=0.5, metavar="T", help="below this a step is wrong (0.5)")
    scorers.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return pipe.run(args, lambda source: task(source, args.more, args.aggregate, args.threshold))


def task(source: Source, more: str | None, aggregate: str | None, threshold: float) -> Task:
    how = aggregate or source.recipe.aggregation
    split = source.split

    def asks(value: Mapping[str, Any]) -> list[Ask]:
        return [solution(value, split)]

    def answer(value: Mapping[str, Any], asked: list[Ask], results: list[Any]) -> dict[str, Any]:
        (_, steps), result = asked[0], results[0]
        fields: dict[str, Any] = {} if "steps" in value else {"steps": steps}
        fields |= {
            "step_scores": list(result.step_scores),
            "score": result.aggregate(how),
            "first_error": result.first_error(threshold),
        }
        if more is not None:
            fields |= {more: [list(row) for row in getattr(result, more)], "labels": list(source.recipe.labels)}
        return fields

    ours = {"step_scores", "score", "first_error", "scored_by", "error"}
    if more is not None:
        ours |= {more, "labels"}
    told = {"aggregate": how, "threshold": threshold} | ({"return": more} if more is not None else {})
    return Task(asks, answer, ours, source.made_by(**told))
