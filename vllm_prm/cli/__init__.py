"""The command line, `vllm-prm`.

lines.py     JSONL lines and what they ask for        stream.py    lines in, lines out, a batch at a time
output.py    the output file and going on with it     pipe.py      what score and rank share
scorers.py   --model and --server                     patience.py  waiting for a server that is away
the others   one command each

Parsing, calling, printing; what it calls is the library's. vLLM and torch are imported only by a command that needs
them, so help and the commands for files answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vllm_prm.errors import PRMError, RequestError

ABOUT = """Process reward models on vLLM: score reasoning, step by step.

  score      solutions -> step scores            vllm-prm score solutions.jsonl -o scored.jsonl --model M
  rank       candidates -> the best one          vllm-prm rank candidates.jsonl --server http://localhost:8000
  evaluate   a benchmark's file -> its metrics   vllm-prm evaluate gsm8k.json math.json --model M
  report     scored lines -> one HTML page       vllm-prm report scored.jsonl -o report.html
  recipes    known PRMs; check one of your own   vllm-prm recipes math-shepherd
  doctor     is everything in place?             vllm-prm doctor --model M"""
EPILOG = """`vllm-prm COMMAND --help` shows the formats and more examples.
Serving needs no command of ours: vllm serve M --task embed"""


def parser() -> argparse.ArgumentParser:
    from vllm_prm import __version__
    from vllm_prm.cli import doctor, evaluate, rank, recipes, report, score

    top = argparse.ArgumentParser(
        prog="vllm-prm", description=ABOUT, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"vllm-prm {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for command in (score, rank, evaluate, report, recipes, doctor):
        command.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status (2: the command line is wrong, in which case argparse ends the program)."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    top = parser()
    args = top.parse_args(words[:cut])
    args.engine_words = words[cut + 1 :]
    try:
        return int(args.run(args))
    except RequestError as error:  # outside of the lines, which have their own: what was typed cannot be
        print(f"vllm-prm {args.command}: {error}", file=sys.stderr)
        return 2
    except PRMError as error:
        print(f"vllm-prm {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells count
    except BrokenPipeError:  # `vllm-prm ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
