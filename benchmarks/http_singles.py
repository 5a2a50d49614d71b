"""W3, singles over HTTP: solutions per second and latency at concurrency 1, 8 and 32, beside the offline engine.

Two servers on the same weights, ours (/v1/embeddings) and vLLM's native route (/pooling), and an offline engine of
ours that gets all solutions of a turn at once. They take turns on the same solutions of real lengths, sent as token
ids, none of which shares a prefix with another. A client keeps as many requests in flight as the concurrency says.
On a CPU every engine, the offline one too, gets the cores that vLLM's server leaves to its engine: all but the front
end's one. Client and front end share that: `front end` is what HTTP costs there per solution.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from engines import engines, replay
from serve import Server, serving
from turns import checkpoint, finish, parser
from ways import options_of
from workloads import best_of_n

CONCURRENCY = (1, 8, 32)
PER_TURN = {1: 16, 8: 48, 32: 96}  # solutions, so that turns take about as long
ROUTES = {"ours": "/v1/embeddings", "native": "/pooling"}


@dataclass
class Turn:
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    front_ms: float = 0.0  # processor time of the front end, per solution
    engine_ms: float = 0.0


async def ask_all(url: str, prompts: list[list[int]], concurrency: int) -> Turn:
    turn = Turn(scores=[[] for _ in prompts])
    waiting = iter(enumerate(prompts))

    async def client(session: aiohttp.ClientSession) -> None:
        for number, ids in waiting:  # shared: each client takes the next one
            body = {"model": "prm", "input": ids, "encoding_format": "float"}
            start = time.perf_counter()
            async with session.post(url, json=body) as answer:
                document = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{url} answered {answer.status}: {document}")
            turn.latencies.append(time.perf_counter() - start)
            item = document["data"][0]
            rows = item["embedding"] if "embedding" in item else [p for row in item["data"] for p in row]
            turn.scores[number] = rows

    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(concurrency)))
        turn.seconds = time.perf_counter() - start
    return turn


def ask(server: Server, way: str, prompts: list[list[int]], concurrency: int) -> Turn:
    before = server.cpu_seconds()
    turn = asyncio.run(ask_all(server.url + ROUTES[way], prompts, concurrency))
    after = server.cpu_seconds()
    turn.front_ms, turn.engine_ms = (1e3 * (b - a) / len(prompts) for a, b in zip(before, after, strict=True))
    return turn


@contextmanager
def on_cores(bind: str) -> Iterator[None]:
    """Processes started inside keep to the cores of VLLM_CPU_OMP_THREADS_BIND, such as "1" or "1-3,5".

    vLLM binds the workers of a server to them, but not an engine that runs in the process that asks for it.
    """
    if not re.fullmatch(r"[\d,-]+", bind):  # auto, nobind, or several ranks: nothing to be equal to
        yield
        return
    ranges = [[int(end) for end in part.split("-")] for part in bind.split(",")]
    cores = {core for ends in ranges for core in range(ends[0], ends[-1] + 1)}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        del os.environ["OMP_NUM_THREADS"]


def agree(one: list[list[float]], other: list[list[float]], tolerance: float) -> None:
    assert [len(s) for s in one] == [len(s) for s in other], "a step is missing"
    off = max(abs(a - b) for mine, theirs in zip(one, other, strict=True) for a, b in zip(mine, theirs, strict=True))
    assert off <= tolerance, f"scores differ by {off}"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--turns", type=int, default=8)
    arguments = made.parse_args()
    count = 1 if arguments.quick else arguments.turns
    sizes = {1: 2, 8: 8, 32: 8} if arguments.quick else PER_TURN
    if (cores := os.cpu_count() or 1) > 1:
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"1-{cores - 1}" if cores > 2 else "1")
    common = {"max_model_len": 8192, "max_num_batched_tokens": 4096, "enable_chunked_prefill": True}
    turns: dict[tuple[str, int], list[Turn]] = {(way, c): [] for way in (*ROUTES, "offline") for c in CONCURRENCY}
    with ExitStack() as stack:
        what = stack.enter_context(checkpoint(arguments, **common))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for way in ROUTES:
            options = what.options | options_of(way, what.tokens)[1]
            servers[way] = stack.enter_context(serving(what.model, options, logs / f"{way}.log"))
            print(f"{way}: server ready", file=sys.stderr)
        with on_cores(os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto")):
            offline = stack.enter_context(engines(what.model, ["ours"], what.tokens, what.options))["ours"]
        order = random.Random(0)
        for number in range(count + 1):
            for concurrency in CONCURRENCY:
                (prompts,) = best_of_n(1000 * number + concurrency, what.tokens.tag, sizes[concurrency], 1)
                found: dict[str, Turn] = {}
                for way in order.sample(["ours", "native", "offline"], 3):
                    if way == "offline":
                        alone = replay(offline, [prompts])
                        found[way] = Turn(alone.seconds, [], alone.scores)
                    else:
                        found[way] = ask(servers[way], way, prompts, concurrency)
                for way in ROUTES:
                    agree(found[way].scores, found["offline"].scores, what.tolerance)
                if number:  # the first round warms up
                    for way, turn in found.items():
                        turns[way, concurrency].append(turn)
            print(f"turn {number} of {count} done", file=sys.stderr)
        _report(turns, what, arguments)


def _report(turns: dict[tuple[str, int], list[Turn]], what, arguments) -> None:  # noqa: ANN001
    table = []
    titles = f"{'solutions/s':>12}{'p50 ms':>8}{'p95 ms':>8}{'HTTP/offline':>13}{'front end ms':>13}"
    print(f"{'':8}{'concurrency':>12}{titles}")
    for (way, concurrency), found in turns.items():
        offline = turns["offline", concurrency]
        latencies = sorted(1e3 * seconds for turn in found for seconds in turn.latencies)
        row = {
            "way": way,
            "concurrency": concurrency,
            "solutions_per_s": statistics.median(len(turn.scores) / turn.seconds for turn in found),
            "over_offline": statistics.median(o.seconds / t.seconds for o, t in zip(offline, found, strict=True)),
            "p50_ms": latencies[len(latencies) // 2] if latencies else None,
            "p95_ms": latencies[int(0.95 * len(latencies))] if latencies else None,
            "front_end_cpu_ms": statistics.median(turn.front_ms for turn in found),
            "engine_cpu_ms": statistics.median(turn.engine_ms for turn in found),
        }
        table.append(row)
        shown = [f"{row[k]:.0f}" if row[k] is not None else "" for k in ("p50_ms", "p95_ms")]
        print(
            f"{way:8}{concurrency:12}{row['solutions_per_s']:12.1f}{shown[0]:>8}{shown[1]:>8}"
            f"{row['over_offline']:13.2f}{row['front_end_cpu_ms']:13.1f}"
        )
    finish({"benchmark": "http_singles", "table": table}, what, arguments.output)


if __name__ == "__main__":
    main()
