"""Checks and figures on a machine with a GPU, in about fifteen minutes: `make gpu`.

Every piece has a process of its own, and its result is kept as soon as it is there: run it again, and it goes on with
the pieces that are missing. On a machine without a GPU, --tiny shows that the pieces run; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from tables import into_file

from gpu.machine import ROOT, commit, machine
from gpu.pieces import OtherMachine, load, missing, run_all, store
from gpu.plan import FIGURES, plan, weights_of
from gpu.report import BEGIN, faults, markdown
from vllm_prm.engine.compat import untested

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "gpu.json", ROOT / "docs" / "gpu.md"
TEMPORARY = Path(tempfile.gettempdir())
TINY_RESULTS = TEMPORARY / "vllm-prm-gpu-tiny.json"
LEFT_OVER = 3  # exit status: pieces are left, for which --limit-seconds had no room


def main() -> None:
    arguments = _arguments()
    pieces = plan(arguments.weights, arguments.tiny)
    if arguments.list:
        print("\n".join(f"{piece.name:30} at most {piece.limit_s:.0f} s" for piece in pieces))
        return
    if unknown := {*arguments.pieces} - {piece.name for piece in pieces}:
        raise SystemExit(f"there is no piece {', '.join(sorted(unknown))}; --list lists them")
    signal.signal(signal.SIGTERM, _ended)  # so that what has been started is ended too
    output = arguments.output or (TINY_RESULTS if arguments.tiny else RESULTS)
    try:
        document = load(output, _machine(arguments.tiny), arguments.again)
        store(output, document)
        todo = [piece for piece in pieces if piece.name in arguments.pieces] or missing(pieces, document)
        left = run_all(todo, output, document, {"commit": commit()}, arguments.limit_seconds, _tell)
    except (OtherMachine, ValueError) as reason:
        raise SystemExit(str(reason)) from None
    order = [piece.name for piece in pieces]
    document["pieces"] = dict(sorted(document["pieces"].items(), key=lambda item: order.index(item[0])))
    store(output, document)
    if not missing(pieces, document):
        for shape in FIGURES:
            shutil.rmtree(weights_of(shape, arguments.weights, arguments.tiny), ignore_errors=True)
    _finish(document, output, arguments, [piece.name for piece in left])


def _machine(tiny: bool) -> dict[str, Any]:
    """Ends with a sentence where nothing can be run."""
    if (sentence := untested()) is not None:
        raise SystemExit(sentence)
    here = {**machine(), "tiny": tiny}
    if not here["gpus"] and not tiny:
        raise SystemExit("there is no GPU (nvidia-smi lists none). To see the pieces run on a CPU, add --tiny")
    return here


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "pieces", nargs="*", help="only these, whether they have a result or not (default: missing ones)"
    )
    parser.add_argument("--list", action="store_true", help="list the pieces and run none")
    parser.add_argument("--again", action="store_true", help="forget the results of before")
    parser.add_argument("--limit-seconds", type=float, help="end before a piece that may take longer than what is left")
    parser.add_argument("--tiny", action="store_true", help="small shapes, on a CPU too: does it run?")
    parser.add_argument("--output", type=Path, help=f"JSON document (default: {RESULTS.relative_to(ROOT)})")
    parser.add_argument(
        "--weights", type=Path, default=TEMPORARY, help="folder for 31 GB of weights (default: %(default)s)"
    )
    return parser.parse_args()


def _finish(document: dict[str, Any], output: Path, arguments: argparse.Namespace, left: list[str]) -> None:
    text = markdown(document)
    print("\n" + text)
    if not arguments.tiny and output == RESULTS:
        into_file(PAGE, text, BEGIN)
    print(f"results: {output}", file=sys.stderr)
    if left:
        print(f"{len(left)} pieces are left ({', '.join(left)}): run it again", file=sys.stderr)
        raise SystemExit(LEFT_OVER)
    if wrong := faults(document):
        raise SystemExit("\n".join(["not as it should be:", *wrong]))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ended(*_: Any) -> NoReturn:
    raise SystemExit("ended by SIGTERM: what is finished is kept, run it again for the rest")


if __name__ == "__main__":
    main()
