"""The options that commands share, and what is said about an option that no command has.

Only argparse: nothing here starts or reads anything, so that `--help` comes at once.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vllm_prm.errors import RequestError

INPUT_HELP = "JSONL files, read one after the other; - is stdin"
OUTPUT_HELP = (
    "where the results go; if it is there already, the run goes on after its last whole line "
    "(default: stdout, which cannot be continued)"
)
NEW_KINDS = ("raw", "chat", "turns", "segments", "judge")  # of prompts, those that a few answers describe


def add_command(
    commands: Any, name: str, summary: str, about: str, examples: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A command's parser; `run` gets the parsed options, and `args.parser` is the parser itself."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_inputs(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("input", nargs="*", default=["-"], metavar="INPUT", help=text)


def add_output(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="start over: throw away what -o FILE holds")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no closing line")


def add_aggregate(group: argparse._ActionsContainer, prefix: str = "") -> None:
    group.add_argument(
        "--aggregate", type=_aggregation, metavar="HOW", help=f"{prefix}min, product, mean, last or sum_log"
    )


def add_threshold(group: argparse._ActionsContainer) -> None:
    group.add_argument("--threshold", type=float, metavar="T", help="below this a step is wrong (the recipe's: 0.5)")


def add_source(parser: argparse.ArgumentParser) -> None:
    """--model, --server and what belongs to them; `sources.chosen_source` reads them."""
    group = parser.add_argument_group("who scores (one of --model and --server)")
    group.add_argument("--model", metavar="M", help="name or folder of a PRM, for an engine in this process")
    group.add_argument(
        "--recipe",
        metavar="R",
        help="a name (see `vllm-prm recipes`), a JSON file, inline JSON; not needed for a known --model or a folder "
        "with a prm.json, nor for a --server, unless it only completes text, without vllm-prm",
    )
    _add_rubric(group)
    group.add_argument(
        "--server",
        metavar="URL",
        help="a server that runs, such as http://localhost:8000 (VLLM_PLUGINS=prm vllm serve M --task embed)",
    )
    group.add_argument(
        "--tokenizer",
        metavar="T",
        help="with --server and --recipe: folder or name of the tokenizer; default: that of the server's model",
    )
    group.add_argument("--served-model", metavar="NAME", help="which of the server's models, if it serves several")
    add_api_key(group)
    group.add_argument("--batch-size", type=_positive, metavar="N", help="solutions to score and write at a time")
    _add_requests(group)


def _add_requests(group: argparse._ActionsContainer) -> None:
    """How a server is asked."""
    group.add_argument(
        "--solutions-per-request",
        type=_positive,
        default=16,  # PRMClient's own: client/packing.py
        metavar="N",
        help="with --server: at most so many solutions share a request, long ones fewer (16); 1: each has its own",
    )
    group.add_argument(
        "--keep-questions-apart",
        action="store_true",
        help="with --server: no request holds solutions of two questions, for a router before several servers",
    )
    group.add_argument(
        "--patience",
        type=float,
        default=300.0,  # a restart with weights to load from disk takes minutes
        metavar="S",
        help="seconds to wait for a server that does not answer before giving up (300)",
    )


def _add_rubric(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--rubric",
        metavar="TEXT",
        help="any instruct model as a judge (--recipe judge, or a recipe like it): what makes a step a good one",
    )


def add_api_key(group: argparse._ActionsContainer) -> None:
    group.add_argument("--api-key", metavar="KEY", help="the server's API key; default: $VLLM_API_KEY")


def refuse_unknown(args: argparse.Namespace, unknown: Sequence[str]) -> NoReturn:
    """End the program (exit status 2) with the command's usage and what is wrong with the words nobody took.

    unknown: options of vLLM's engine that should stand after --, misspelled options, or inputs that do not stand
    together; with each option, its value if argparse did not take that for an input.
    """
    parser: argparse.ArgumentParser = args.parser
    options = [word.partition("=")[0] for word in unknown if re.match("--?[A-Za-z]", word)]
    if not options:
        parser.error(f"{shlex.join(unknown)} is not expected here; files stand side by side, not among the options")
    complaint = f"{', '.join(options)} {'is no option' if len(options) == 1 else 'are no options'} of {parser.prog}"
    model: str | None = getattr(args, "model", None)
    if model is None:
        parser.error(complaint)
    value_elsewhere = " ..." if unknown[-1] == options[-1] else ""  # it has none, or it was taken for an input
    parser.error(
        f"{complaint}; options of vLLM's engine go after --, for example: "
        f"{parser.prog} ... --model {shlex.quote(model)} -- {shlex.join(unknown)}{value_elsewhere}"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _aggregation(text: str) -> str:
    """The name of an aggregation, checked."""
    from vllm_prm.aggregate import check_aggregation  # with pydantic, which would make --help wait

    try:
        check_aggregation(text)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
