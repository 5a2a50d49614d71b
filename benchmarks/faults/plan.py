"""Which pieces there are, with their time limits. A piece is one fault, or several on the same server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu.machine import ROOT
from gpu.pieces import Piece

START_UP_S = 600  # of a server, several times what it takes on two cores that others use as well
FAULT_S = 600  # until what must happen has happened
SOAK_S, HOSTILE = 3600.0, 100_000
SLOWEST_A_SECOND = 10  # hostile requests; two idle cores answer ten times as many
CONCURRENCY, LEAVING = 64, 0.05


def plan(options: argparse.Namespace, logs: Path) -> list[Piece]:
    """options: `seconds` of the soak, `requests` that are hostile, `concurrency`. logs: folder for servers' output."""
    limits = {
        **dict.fromkeys(
            ("out of memory", "tokenizer raises", "terminated", "drained", "command line", "slow clients"),
            START_UP_S + FAULT_S,
        ),
        "engine killed": 3 * (START_UP_S + FAULT_S),
        "soak": options.seconds + START_UP_S,
        "hostile": options.requests / SLOWEST_A_SECOND + START_UP_S,
    }
    line = ["--seconds", str(options.seconds), "--requests", str(options.requests)]
    line += ["--concurrency", str(options.concurrency), "--logs", str(logs)]
    environment = {"PYTHONPATH": ":".join([str(ROOT / "benchmarks"), str(ROOT)])}
    return [
        Piece(name, [sys.executable, "-m", "faults.work", *line, name], limit_s, environment)
        for name, limit_s in limits.items()
    ]


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """How much is asked: what `make soak` does, unless it is said otherwise."""
    parser.add_argument("--seconds", type=float, default=SOAK_S, help="of the soak (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=HOSTILE, help="that are hostile (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help="of the soak (default: %(default)s)")
