"""`vllm-prm rank`: a question and its candidate solutions a line -> the same line with their order."""

from __future__ import annotations

import argparse
from typing import Any

from vllm_prm.cli import options

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
    parser = options.add_command(commands, "rank", HELP, ABOUT, EXAMPLES, run)
    options.add_inputs(parser, options.INPUT_HELP)
    options.add_output(parser, options.OUTPUT_HELP)
    options.add_aggregate(parser)
    options.add_source(parser)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.cli.answers import RankTask
    from vllm_prm.cli.running import run_files

    return run_files(args, lambda source: RankTask(source.recipe, source.made_by, args.aggregate))
