"""Engines take turns: every way replays the same prompts, in a new random order each round.

Neighbouring turns of a fraction of a second share whatever the machine is doing at the time, so what is reported is
the median over rounds of one way's seconds over another's, not a ratio of two separate averages. No way is always
first, and none always follows the same other. Before anything is timed, all ways must agree on the first turn's
scores; they are compared again in every turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines import UNSCORED, Replay, engines, largest_difference, replay
from model import SHAPES, Tokens, build_model, tokens_of
from workloads import Batches

RESULTS = Path(__file__).parent / "results"


@dataclass
class Checkpoint:
    """What is benchmarked, and on which settings."""

    model: str
    tokens: Tokens
    parameters: int | None  # of the random model; None for a real checkpoint
    options: dict[str, Any]  # for every vLLM engine
    tolerance: float
    alone: bool  # one engine at a time


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    real = made.add_argument_group("a real checkpoint, instead of the random Llama of 60M parameters")
    real.add_argument("--model", help="folder or name")
    real.add_argument("--tag", type=int, help="id of its step tag")
    real.add_argument("--scoring", type=int, nargs=2, metavar=("GOOD", "BAD"), help="ids of its two scoring tokens")
    real.add_argument("--dtype", default="float32", help="of every way (default: %(default)s)")
    real.add_argument(
        "--tolerance", type=float, default=1e-5, help="how far scores may lie apart (default: %(default)s, float32's)"
    )
    made.add_argument(
        "--vocabulary",
        type=int,
        choices=SHAPES,
        default=128_256,
        help="of the random Llama: of its 60M parameters, 32000 leaves the layers more (default: %(default)s)",
    )
    made.add_argument("--block-size", type=int, default=32, help="of the KV cache (default: %(default)s)")
    made.add_argument("--memory", type=float, help="--gpu-memory-utilization of each engine")
    made.add_argument(
        "--alone", action="store_true", help="boot one engine after the other: where not all of them fit in memory"
    )
    made.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="torch.compile and CUDA graphs: vLLM's default, slow to boot (default here: %(default)s)",
    )
    made.add_argument("--quick", action="store_true", help="few and small turns: does it run? Its figures mean nothing")
    made.add_argument("--output", type=Path, help="also write the JSON document to this file")
    return made


@contextmanager
def checkpoint(arguments: argparse.Namespace, **options: Any) -> Iterator[Checkpoint]:
    """The model that the arguments name, or the random one in a folder that goes away again."""
    options |= {"dtype": arguments.dtype, "block_size": arguments.block_size, "enforce_eager": not arguments.compile}
    if arguments.memory:
        options["gpu_memory_utilization"] = arguments.memory
    if arguments.model:
        if arguments.tag is None or arguments.scoring is None:
            raise SystemExit("--model needs --tag and --scoring: the ids of its step tag and scoring tokens")
        tokens = tokens_of(arguments.model, arguments.tag, arguments.scoring)
        yield Checkpoint(arguments.model, tokens, None, options, arguments.tolerance, arguments.alone)
        return
    # Room for 65,536 tokens: the longest solution twice. Six engines and their logits must fit into 24 GB.
    options["num_gpu_blocks_override"] = 65_536 // arguments.block_size
    with tempfile.TemporaryDirectory() as folder:
        parameters = build_model(Path(folder), arguments.vocabulary)
        yield Checkpoint(folder, Tokens(), parameters, options, arguments.tolerance, arguments.alone)


Played = dict[str, dict[int, Replay]]  # per way, its turns


def play(
    what: Checkpoint,
    ways: list[str],
    turns: list[Batches],
    seldom: dict[str, int] | None = None,
    timed: bool = False,
    keep_freed: bool = True,
) -> Played:
    """Replay every turn by every way; a way in `seldom` takes part in each n-th turn only. keep_freed: see engines().

    Turn 0 warms up and is compared; it is not in the result. Raises AssertionError where two ways disagree.
    """
    part = {way: range(0, len(turns), (seldom or {}).get(way, 1)) for way in ways}
    played: Played = {way: {} for way in ways}
    if what.alone:
        for way in ways:
            with engines(what.model, [way], what.tokens, what.options, keep_freed) as pipes:
                for number in part[way]:
                    played[way][number] = replay(pipes[way], turns[number], timed)
        for number in range(len(turns)):
            _agree(played, number, what.tolerance)
    else:
        with engines(what.model, ways, what.tokens, what.options, keep_freed) as pipes:
            order = random.Random(0)
            for number in range(len(turns)):
                for way in order.sample(ways, len(ways)):
                    if number in part[way]:
                        played[way][number] = replay(pipes[way], turns[number], timed)
                _agree(played, number, what.tolerance)
                shown = {way: round(found[number].seconds, 3) for way, found in played.items() if number in found}
                print(f"turn {number} of {len(turns) - 1}: {shown}", file=sys.stderr)
    for found in played.values():
        del found[0]
    return played


def _agree(played: Played, number: int, tolerance: float) -> None:
    scored = [way for way in played if way not in UNSCORED and number in played[way]]
    for way in scored[1:]:
        difference = largest_difference(played[scored[0]][number], played[way][number])
        assert difference <= tolerance, f"{scored[0]} and {way} differ by {difference} in turn {number}"


def difference(played: Played) -> float:
    """The largest one between any two ways, over all turns."""
    first = next(way for way in played if way not in UNSCORED)
    others = [way for way in played if way not in UNSCORED and way != first]
    pairs = [(played[first][n], found) for way in others for n, found in played[way].items() if n in played[first]]
    return max((largest_difference(*pair) for pair in pairs), default=0.0)


def faster(played: Played, other: str, than: str, what: str = "seconds") -> dict[str, float]:
    """Seconds of `than` over seconds of `other`, turn by turn: the median, and how far the turns spread.

    what: a field of Replay, to compare that instead.
    """
    pairs = [(played[than][n], played[other][n]) for n in played[than] if n in played[other]]
    ratios = sorted(getattr(one, what) / getattr(two, what) for one, two in pairs)
    quarter = len(ratios) // 4
    return {
        "median": statistics.median(ratios),
        "quarter": ratios[quarter],
        "three_quarters": ratios[-1 - quarter],
        "turns": len(ratios),
    }


def finish(document: dict[str, Any], what: Checkpoint, output: Path | None) -> None:
    """Complete the document, print it as one line, and keep it if asked to."""
    settings = {k: v for k, v in what.options.items() if k != "enforce_eager"} | {
        "eager": what.options["enforce_eager"]
    }
    name = Path(what.model).name if what.parameters is None else f"random Llama, {what.parameters} parameters"
    document |= {"model": name, "settings": settings, "machine": machine()}
    keep(document, output)


def keep(document: dict[str, Any], output: Path | None) -> None:
    """Print a result as one line of JSON, the last that a benchmark prints, and keep it if asked to."""
    line = json.dumps(document)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(line + "\n", encoding="utf-8")
    print(line)


def machine() -> str:
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores, {platform.machine()}{device}"
