"""Faults, each tried for real, and what came of them: `make soak`.

Every piece has a process of its own, and its result is kept as soon as it is there: run it again, and it goes on with
the pieces that are missing. All of it takes some hours on two cores, most of them for the soak and the hostile
requests; --seconds and --requests make them shorter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from gpu.machine import ROOT, commit, machine
from gpu.pieces import PASSED, OtherMachine, last_line, load, missing, run, store
from tables import into_file

from faults.plan import add_sizes, plan
from faults.report import BEGIN, markdown

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "faults.json", ROOT / "docs" / "reliability.md"


def main() -> None:
    options = _options()
    pieces = plan(options, options.logs)
    if options.list:
        print("\n".join(f"{piece.name:30} at most {piece.limit_s:.0f} s" for piece in pieces))
        return
    if unknown := {*options.pieces} - {piece.name for piece in pieces}:
        raise SystemExit(f"there is no piece {', '.join(sorted(unknown))}; --list lists them")
    try:
        document = load(options.output, machine(), options.again)
        if options.merge:
            document["pieces"] |= load(options.merge, machine(), again=False)["pieces"]
    except OtherMachine as reason:
        raise SystemExit(str(reason)) from None
    store(options.output, document)
    options.logs.mkdir(parents=True, exist_ok=True)
    at = commit()  # what runs, whatever is committed meanwhile
    todo = [] if options.merge else [piece for piece in pieces if piece.name in options.pieces]
    todo = todo or ([] if options.merge else missing(pieces, document))
    if not todo and not options.merge:
        print(f"every piece has its result in {options.output}; --again forgets them, a piece's name runs it again")
    for piece in todo:
        print(f"{piece.name} (at most {piece.limit_s:.0f} s, {options.logs})", file=sys.stderr, flush=True)
        result = {**run(piece, options.logs / f"{piece.name}.log"), "commit": at}
        print(f"    {result['outcome']} after {result['seconds']:.0f} s {last_line(result)}", file=sys.stderr)
        document = load(options.output, machine(), again=False)  # another run may have added to it
        document["pieces"][piece.name] = result
        store(options.output, document)
    if options.output == RESULTS:
        into_file(PAGE, markdown(document), BEGIN)
    if wrong := [f"{name}: {last_line(one)}" for name, one in document["pieces"].items() if one["outcome"] != PASSED]:
        raise SystemExit("\n".join(["not as it should be:", *wrong]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pieces", nargs="*", help="only these, with a result or not (default: missing ones)")
    parser.add_argument("--list", action="store_true", help="list the pieces and run none")
    parser.add_argument("--again", action="store_true", help="forget the results of before")
    parser.add_argument("--merge", type=Path, metavar="FILE", help="run none, and take over the results in FILE")
    add_sizes(parser)
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON document (default: %(default)s)")
    parser.add_argument(
        "--logs", type=Path, default=Path(tempfile.gettempdir()) / "vllm-prm-faults", help="default: %(default)s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
