"""`vllm-prm rank`: a question and its candidate solutions a line -> the same line with their order."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from vllm_prm.cli import pipe, scorers
from vllm_prm.cli.lines import Ask, candidates
from vllm_prm.cli.scorers import Source
from vllm_prm.cli.stream import Task

HELP = "rank candidate solutions of a question: JSONL in, JSONL out"
ABOUT = """Rank candidate solutions (best of N). Each line of the input is one question:

  {"question": "...", "candidates": [["Step 1: ...", "Step 2: ..."], ["Step 1: ..."]]}
  {"question": "...", "candidates": ["Step 1: ...\\nStep 2: ...", "Step 1: ..."]}     split as the recipe splits

Each line of the output, in the same order, is that line plus

  best          index, from 0, of the best candidate
  order         indices of all candidates, best first; equal ones keep their order
  scores        one number for each candidate (--aggregate; the recipe says how if you do not)
  step_scores   one list for each candidate
  scored_by     model, recipe and aggregation that made these numbers

If a candidate cannot be scored, its line comes out with "error" (which candidate, and why) and without a ranking."""
EXAMPLES = """examples:
  vllm-prm rank candidates.jsonl -o ranked.jsonl --model peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm rank candidates.jsonl --server http://localhost:8000 --aggregate last | jq .best

An interrupted run goes on when the same command is typed again, as `vllm-prm score` does.

exit status: 0 every line was ranked; 1 some were not, or the run had to stop; 2 the command line is wrong"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "rank", help=HELP, description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pipe.add_options(parser)
    parser.add_argument(
        "--aggregate", type=scorers.aggregation, metavar="HOW", help="min, product, mean, last or sum_log"
    )
    scorers.add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return pipe.run(args, lambda source: task(source, args.aggregate))


def task(source: Source, aggregate: str | None) -> Task:
    how = aggregate or source.recipe.aggregation
    split = source.split

    def asks(value: Mapping[str, Any]) -> list[Ask]:
        return candidates(value, split)

    def answer(value: Mapping[str, Any], asked: list[Ask], results: list[Any]) -> dict[str, Any]:
        from vllm_prm.scores import Ranking

        ranking = Ranking.of(results, how)
        return {
            "best": ranking.best,
            "order": list(ranking.order),
            "scores": list(ranking.scores),
            "step_scores": [list(result.step_scores) for result in results],
        }

    ours = {"best", "order", "scores", "step_scores", "scored_by", "error"}
    return Task(asks, answer, ours, source.made_by(aggregate=how))
