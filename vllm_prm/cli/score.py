"""`vllm-prm score`: a solution a line -> the same line with its step scores."""

from __future__ import annotations

import argparse
from typing import Any

from vllm_prm.cli import options

HELP = "score solutions: JSONL in, JSONL out"
ABOUT = """Score every step of every solution. Each line of the input is one solution:

  {"question": "Mia has 12 apples. She buys 5. ...", "steps": ["Step 1: 12 + 5 = 17", "Step 2: ..."]}
  {"question": "...", "solution": "Step 1: 12 + 5 = 17\\nStep 2: ..."}     split into steps as the recipe splits
  {"problem": "...", "steps": [...], "label": 2, ...}                      ProcessBench; other fields are kept

Each line of the output, in the same order, is that line plus

  step_scores   one number for each step, in [0, 1]
  score         all of them as one number (--aggregate; the recipe says how if you do not)
  first_error   index, from 0, of the first step below --threshold; null if there is none
  scored_by     model, recipe, aggregation and threshold that made these numbers
  answer_mass   of a judge: how much probability its answers had together, for each step
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
    parser = options.add_command(commands, "score", HELP, ABOUT, EXAMPLES, run)
    options.add_inputs(parser, options.INPUT_HELP)
    options.add_output(parser, options.OUTPUT_HELP)
    group = parser.add_argument_group("what to write")
    group.add_argument("--return", dest="returned", choices=("probabilities", "logits"), help="write these as well")
    options.add_aggregate(group)
    options.add_threshold(group)
    options.add_source(parser)


def run(args: argparse.Namespace) -> int:
    from vllm_prm.cli.answers import ScoreTask
    from vllm_prm.cli.running import run_files

    return run_files(
        args, lambda source: ScoreTask(source.recipe, source.made_by, args.aggregate, args.threshold, args.returned)
    )
