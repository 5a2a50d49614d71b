"""The process of one piece: `python -m faults.work NAME ANSWER`, which writes the piece's JSON answer.

An exception is the piece's crash. What was found to be wrong is the answer's `failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from serve import Server

from faults import commandline, slow
from faults.generated import generated, is_there
from faults.hostile import Toll, again, requests, storm
from faults.kill import GONE_S, dies, end_rest, exhaust_memory, kill_engine, terminate
from faults.known import Broken, Known, solutions
from faults.plan import LEAVING, add_sizes
from faults.scored import check_lines, lines_in, scoring, wait_for, write_lines
from faults.server import Memory, metric, prm_server, tree, vllm_alone
from faults.soak import TIGHT, Tally, load
from faults.tokenizer import checkpoint, raises

WARM_S, WINDOW_S = 600.0, 60.0  # memory after ten minutes, and at the end: medians of a minute
MOST_GROWTH = 0.02


def soak(options: argparse.Namespace) -> dict[str, Any]:
    trees = solutions(questions=60, beams=4, most_steps=30)
    warm_s, window_s = min(WARM_S, options.seconds / 3), min(WINDOW_S, options.seconds / 6)
    with prm_server(options.logs / "soak-server.log", **TIGHT) as server:
        with Memory(server.process.pid, every_s=min(5.0, window_s / 4)) as memory:
            tally = asyncio.run(load(server.url, trees, options.seconds, options.concurrency, LEAVING, _tell))
        figures = {"seconds": options.seconds, "concurrency": options.concurrency, **tally.figures()}
        for name in ("num_preemptions", "prefix_cache_queries", "prefix_cache_hits", "prompt_tokens"):
            figures[name] = metric(server.url, f"vllm:{name}_total")
    figures["growth"] = round(memory.growth(warm_s, window_s), 4)
    figures["memory"] = memory.samples[:: max(1, len(memory.samples) // 120)]
    wrong = [f"{count} × {kind}" for kind, count in tally.wrong.items()]
    if figures["growth"] >= MOST_GROWTH:
        wrong.append(f"memory grew by {figures['growth']:.1%} after the first {warm_s:.0f} s")
    if not figures["num_preemptions"]:
        wrong.append("nothing was preempted, so this shows less than it is meant to: shrink the cache")
    return {**figures, **({"failed": "; ".join(wrong)} if wrong else {})}


def _tell(tally: Tally, seconds: float) -> None:
    print(f"{seconds:7.0f} s  {json.dumps(tally.figures())}", file=sys.stderr, flush=True)


def hostile(options: argparse.Namespace) -> dict[str, Any]:
    trees = solutions(questions=20, beams=4, most_steps=12)
    warm = options.requests // 10
    # A cache that is soon full: the pages of a large one are the system's to give as it fills, which looks like a leak.
    with prm_server(options.logs / "hostile-server.log", num_gpu_blocks_override=256) as server, ExitStack() as stack:
        schema = stack.enter_context(closing(generated(server.url))) if is_there() else None
        sources = requests(trees, 0, schema)
        memory = stack.enter_context(Memory(server.process.pid, every_s=1.0))
        # What the engine keeps per shape of a batch is there after some minutes of load, hostile or not (`soak`).
        asyncio.run(load(server.url, trees, min(WARM_S, options.seconds / 6), options.concurrency, 0.0, _tell))
        tolls = []
        for count in (warm, options.requests - warm):
            tolls.append(asyncio.run(storm(server.url, trees, sources, count, _tell_toll, seed=len(tolls))))
            tolls[-1].mebibytes = memory.samples[-1][1:]
    broken = {**tolls[0].broken, **tolls[1].broken}
    without_us = {}
    if broken:
        with vllm_alone(options.logs / "without-us.log") as server:
            without_us = asyncio.run(again(server.url, broken))
    growth = round(sum(tolls[1].mebibytes) / sum(tolls[0].mebibytes) - 1, 4)
    wrong = [sentence for toll in tolls for sentence in toll.faults(without_us)]
    if growth >= MOST_GROWTH:
        wrong.append(f"memory grew by {growth:.1%} after the first {warm} requests")
    figures = {"warm": tolls[0].figures(), **tolls[1].figures(), "growth": growth, "without us": without_us}
    figures |= {
        "mebibytes": [toll.mebibytes for toll in tolls],
        "schemathesis": is_there(),
        "warmed_s": min(WARM_S, options.seconds / 6),
    }
    return {**figures, **({"failed": "; ".join(wrong)} if wrong else {})}


def engine_killed(options: argparse.Namespace) -> dict[str, Any]:
    """With `vllm-prm score` under way, which is to go on when the server is there again."""
    trees = solutions(questions=20, beams=4, most_steps=12)
    many = [beam.first(1 + n % 12) for n in range(25) for beams in trees for beam in beams]
    source, output = options.logs / "killed.jsonl", options.logs / "killed-scored.jsonl"
    output.unlink(missing_ok=True)
    write_lines(source, many)
    with ExitStack() as stack:
        with prm_server(options.logs / "killed-server.log") as server:
            score = stack.enter_context(scoring(source, output, server.url, "--patience", "900"))
            wait_for(lambda: lines_in(output) >= len(many) // 4, "quarter of the lines")
            figures = dies(server, trees, kill_engine, clients=8)
        figures |= {"lines": len(many), "lines at death": lines_in(output)}
        port = int(server.url.rpartition(":")[2])
        with prm_server(options.logs / "back-server.log", port=port):
            figures["exit status"] = score.wait(900)
    figures["left behind without us"] = left_without_us(options.logs / "alone-server.log")
    return {**figures, "largest difference": check_lines(output, many)}


def out_of_memory(options: argparse.Namespace) -> dict[str, Any]:
    return _dying(options, exhaust_memory)


def terminated(options: argparse.Namespace) -> dict[str, Any]:
    return _dying(options, terminate)


def drained(options: argparse.Namespace) -> dict[str, Any]:
    return _dying(options, terminate, shutdown_timeout=60)


def _dying(options: argparse.Namespace, fault: Callable[[Server], None], **flags: Any) -> dict[str, Any]:
    """Under load; where requests hang, the same without us says whose that is."""
    trees = solutions(questions=20, beams=4, most_steps=30)
    with prm_server(options.logs / f"{options.name}-server.log", **flags) as server:
        figures = dies(server, trees, fault, clients=32)
    if not figures["hung"]:
        return figures
    with vllm_alone(options.logs / f"{options.name}-alone-server.log") as server:
        figures["without us"] = dies(server, trees, fault, clients=32, ours=False)
    if figures["without us"]["hung"]:
        return figures
    return {**figures, "failed": f"requests that hang, and none without us: {figures['hung']}"}


def tokenizer_raises(options: argparse.Namespace) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        model = checkpoint(Path(folder) / "tiny-prm")
        with prm_server(options.logs / "tokenizer-server.log", model, trust_remote_code=True) as server:
            return raises(server, solutions(questions=2, beams=2, most_steps=6))


def left_without_us(log: Path) -> list[str]:
    """The processes that vLLM leaves behind when the engine of a server without plugins is killed."""
    with vllm_alone(log) as server:
        processes = tree(server.process.pid)
        kill_engine(server)
        server.process.wait(GONE_S)
        return end_rest(processes)


def command_line(options: argparse.Namespace) -> dict[str, Any]:
    return _served(options, commandline.FAULTS, lambda url, trees, folder: (url, _lines(trees), folder))


def slow_clients(options: argparse.Namespace) -> dict[str, Any]:
    return _served(options, slow.FAULTS, lambda url, trees, _: (url, trees))


def _served(
    options: argparse.Namespace, faults: dict[str, Callable[..., dict[str, Any]]], given: Callable[..., tuple]
) -> dict[str, Any]:
    """Every fault on one server, with a folder of its own; what is found broken does not stop the others."""
    figures: dict[str, Any] = {}
    wrong = []
    trees = solutions(questions=10, beams=3, most_steps=8)
    with prm_server(options.logs / f"{options.name}-server.log") as server:
        for name, fault in faults.items():
            with TemporaryDirectory() as folder:
                try:
                    figures[name] = fault(*given(server.url, trees, Path(folder)))
                except Broken as broken:
                    wrong.append(f"{name}: {broken}")
            print(name, figures.get(name, wrong[-1:]), file=sys.stderr, flush=True)
    return {**figures, **({"failed": "; ".join(wrong)} if wrong else {})}


def _lines(trees: Sequence[Sequence[Known]]) -> list[Known]:
    return [beam.first(1 + n % 8) for n in range(8) for beams in trees for beam in beams]


def _tell_toll(toll: Toll) -> None:
    print(json.dumps(toll.figures()), file=sys.stderr, flush=True)


PIECES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "engine killed": engine_killed,
    "out of memory": out_of_memory,
    "tokenizer raises": tokenizer_raises,
    "terminated": terminated,
    "drained": drained,
    "command line": command_line,
    "slow clients": slow_clients,
    "hostile": hostile,
    "soak": soak,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sizes(parser)
    parser.add_argument("--logs", type=Path, required=True, help="folder for the output of servers")
    parser.add_argument("name", choices=PIECES)
    parser.add_argument("answer", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        answer = PIECES[options.name](options)
    except Broken as broken:
        answer = {"failed": str(broken)}
    options.answer.write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main()
