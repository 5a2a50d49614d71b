"""The command line, `vllm-prm`.

score.py rank.py evaluate.py     make a task, which running.py runs
report.py recipes.py doctor.py   need no run: each is a command by itself
serve.py                         becomes vLLM's server
options.py                       the options they share

The way of a line, once from top to bottom; what a room calls stands below it:
running.py   takes lines from files.py, gets their answers by a source and a task, hands them to the output
answers.py   lines in, answers out, a batch at a time       ../lines.py  what a line asks for
sources.py   --model and --server: what scores a batch      patience.py  waiting for a server that is away
output.py    the output file, and going on with it          progress.py  what is said on stderr meanwhile

What is called is the library's. vLLM and torch are imported only by a command that needs them, and everything but
argparse only by the command that runs, so help and the commands for files come at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vllm_prm import __version__
from vllm_prm.cli import doctor, evaluate, rank, recipes, report, score, serve
from vllm_prm.cli.options import refuse_unknown
from vllm_prm.errors import PRMError, RequestError

ABOUT = """Process reward models on vLLM: score reasoning, step by step.

  serve      vllm serve, with our routes         vllm-prm serve M
  score      solutions -> step scores            vllm-prm score solutions.jsonl -o scored.jsonl --model M
  rank       candidates -> the best one          vllm-prm rank candidates.jsonl --server http://localhost:8000
  evaluate   a benchmark's file -> its metrics   vllm-prm evaluate gsm8k.json math.json --model M
  report     scored lines -> one HTML page       vllm-prm report scored.jsonl -o report.html
  recipes    known PRMs; check one of your own   vllm-prm recipes math-shepherd
  doctor     is everything in place?             vllm-prm doctor --model M"""
EPILOG = """`vllm-prm COMMAND --help` shows the formats and more examples.
Serving needs no command of ours: VLLM_PLUGINS=prm vllm serve M --task embed"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="vllm-prm", description=ABOUT, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"vllm-prm {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for command in (serve, score, rank, evaluate, report, recipes, doctor):
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status (2: the command line is wrong, in which case argparse ends the program)."""
    args = parsed(list(sys.argv[1:] if argv is None else argv))
    try:
        return int(args.run(args))
    except RequestError as error:  # outside of the lines, which have their own: what was typed cannot be
        return _stopped(args, error, str(error), status=2)
    except PRMError as error:
        return _stopped(args, error, str(error), status=1)
    except KeyboardInterrupt as interrupt:
        return _stopped(args, interrupt, "interrupted.", status=130)  # 128 + SIGINT, as shells count
    except BrokenPipeError:  # `vllm-prm ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # no room, a disk that fails: what is written stays, and there is nothing of ours to mend
        return _stopped(args, error, f"{error}.", status=1)


def parsed(words: list[str]) -> argparse.Namespace:
    """The options; `engine_words` are those after --, which vLLM's engine takes."""
    if words[:1] == ["serve"] and not {"-h", "--help"} & {*words[1:2]}:  # every word is vLLM's, wherever it stands
        args = parser().parse_args(["serve"])
        args.words = words[1:]
        return args
    cut = words.index("--") if "--" in words else len(words)
    args, unknown = parser().parse_known_args(words[:cut])
    args.engine_words = words[cut + 1 :]
    if unknown:
        refuse_unknown(args, unknown)
    if args.engine_words and not hasattr(args, "model"):
        args.parser.error(f"{args.parser.prog} starts no engine; expected nothing after --")
    return args


def _stopped(args: argparse.Namespace, error: BaseException, message: str, *, status: int) -> int:
    """Say why the command stopped, and what those that it passed on its way up noted: how it can go on."""
    print(" ".join([f"vllm-prm {args.command}: {message}", *getattr(error, "__notes__", ())]), file=sys.stderr)
    return status
