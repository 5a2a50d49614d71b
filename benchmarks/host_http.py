"""What does HTTP cost the host? One tiny layer behind `vllm serve --task embed`, real texts, a real tokenizer.

The model costs next to nothing, so solutions per second are those of HTTP, tokenizing and vLLM's front end. Ways:

  embeddings text   /v1/embeddings, one whole prompt as text a request: vLLM's own route, which tokenizes once
  embeddings ids    the same with the prompt's token ids
  score             /v1/prm/score, one question with its steps a request
  score packed      /v1/prm/score, 32 solutions a request
  client            PRMClient.score_batch of all solutions of a turn

32 requests are under way at once. The load of the four plain ways comes from one process with one event loop, which
posts bodies that are JSON already and reads answers after the clock has stopped, so that it costs each way the same; it
shares the cores with the server all the same. The client's way is what a user pays, its own work included; 32 of its
requests are under way as well.
Solutions are PRMBench's. All ways must agree on their scores before anything is timed, and then all send them again and
again: their prompts are in vLLM's prefix cache, which leaves the model its last block to compute. Without that the
engine, 5 ms of the processor for a new prompt even with this model, would hide the host's differences.

`loop`, `threads`, `engine` are processor time per solution: of the event loop's thread, of the front end's other
threads (tokenizing), of the engine's processes, one of which waits for the other by looking again and again: on two
cores the front end has to share one with it. --profile boots the server a second time, with a switch for cProfile in
its event loop (profiled_server.py), and says whose code how much of `loop` is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from profiled_server import shares
from serve import Server, serving
from texts import Bodies, Solution, bodies_of, solutions
from turns import keep, machine

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from checkpoints import SMALL, save  # noqa: E402 - the tests' checkpoints, and their copy of Mistral's tokenizer

UNDER_WAY = 32
TOLERANCE = 1e-5  # float32's: prompts meet other prompts in a batch
# Blocks of 32 tokens, a CPU's smallest (a GPU's are 16). Of its default, 128, 64 a prompt would be computed again.
OPTIONS = {"task": "embed", "dtype": "float32", "block_size": 32}
TARGETS = (("score", "embeddings text", 1.0), ("client", "embeddings text", 3.0))


@dataclass
class Turn:
    """scores: [solutions][steps]. loop_ms, threads_ms, engine_ms: processor time per solution."""

    scores: list[list[float]]
    seconds: float = 0.0
    loop_ms: float = 0.0
    threads_ms: float = 0.0
    engine_ms: float = 0.0


async def post_all(url: str, plain: Bodies) -> Turn:
    answers: list[bytes] = [b""] * len(plain.bodies)
    waiting = iter(enumerate(plain.bodies))
    headers = {"Content-Type": "application/json"}

    async def work(session: aiohttp.ClientSession) -> None:
        for number, body in waiting:  # shared by all workers: each takes the next
            async with session.post(url + plain.path, data=body, headers=headers) as answer:
                answers[number] = await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{plain.path} answered {answer.status}: {answers[number][:500]!r}")

    connector = aiohttp.TCPConnector(limit=UNDER_WAY)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        begun = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(UNDER_WAY)))
        seconds = time.perf_counter() - begun
    return Turn([scores for answer in answers for scores in plain.scores(json.loads(answer))], seconds)


class Ways:
    """Every way to score, against one server."""

    PLAIN = ("embeddings text", "embeddings ids", "score", "score packed")
    ALL = (*PLAIN, "client")

    def __init__(self, server: Server, model: str) -> None:
        from transformers import AutoTokenizer

        from vllm_prm import PRMClient
        from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST
        from vllm_prm.recipes import bind, load_recipe

        self.server = server
        self.client = PRMClient(server.url, max_concurrency=UNDER_WAY * SOLUTIONS_PER_REQUEST)
        self.recipe = bind(load_recipe("math-shepherd"), AutoTokenizer.from_pretrained(model))

    def turn(self, way: str, batch: list[Solution]) -> Turn:
        ask = self._asks_client if way == "client" else self._posts(way, batch)
        before = self._cpu_seconds()
        turn = ask(batch)
        after = self._cpu_seconds()
        spent = [1e3 * (b - a) / len(batch) for a, b in zip(before, after, strict=True)]
        turn.loop_ms, turn.threads_ms, turn.engine_ms = spent
        assert [len(scores) for scores in turn.scores] == [len(steps) for _, steps in batch], (
            f"{way}: a step is missing"
        )
        return turn

    def _posts(self, way: str, batch: list[Solution]) -> Callable[[list[Solution]], Turn]:
        plain = bodies_of(way, batch, self._token_ids)
        return lambda _: asyncio.run(post_all(self.server.url, plain))

    def _asks_client(self, batch: list[Solution]) -> Turn:
        begun = time.perf_counter()
        results = self.client.score_batch(batch, progress=False)
        seconds = time.perf_counter() - begun
        return Turn([list(result.step_scores) for result in results], seconds)

    def _token_ids(self, solution: Solution) -> list[int]:
        from vllm_prm.prompts import Scoring

        (prompt,) = Scoring(*solution, self.recipe).prompts
        return list(map(int, prompt.token_ids))

    def _cpu_seconds(self) -> tuple[float, float, float]:
        """So far: of the event loop's thread, of the front end's other threads, of the engine's processes."""
        pid = self.server.process.pid
        threads = {one.id: one.user_time + one.system_time for one in psutil.Process(pid).threads()}
        return threads[pid], sum(threads.values()) - threads[pid], self.server.cpu_seconds()[1]


def check(ways: Ways, batch: list[Solution]) -> float:
    """The largest difference between two ways' scores of the same solutions. Raises AssertionError if it is too large.

    Also warms up: connections, compiled kernels, caches of the tokenizer.
    """
    scores = {way: ways.turn(way, batch).scores for way in Ways.ALL}
    reference = scores["embeddings ids"]
    difference = max(
        abs(score - expected)
        for way_scores in scores.values()
        for mine, theirs in zip(way_scores, reference, strict=True)
        for score, expected in zip(mine, theirs, strict=True)
    )
    assert difference <= TOLERANCE, f"scores differ by {difference}"
    return difference


def measure(ways: Ways, batch: list[Solution], rounds: int) -> dict[str, list[Turn]]:
    order, turns = random.Random(0), {way: [] for way in Ways.ALL}
    for _ in range(rounds):
        for way in order.sample(Ways.ALL, len(Ways.ALL)):
            turns[way].append(ways.turn(way, batch))
        print({way: round(found[-1].seconds, 3) for way, found in turns.items()}, file=sys.stderr)
    return turns


def profile(ways: Ways, batch: list[Solution], folder: Path) -> dict[str, dict[str, float]]:
    """Per way, whose code how much of the event loop's time is: shares of 1."""
    by_owner = {}
    for number, way in enumerate(Ways.ALL):
        ways.server.process.send_signal(signal.SIGUSR1)
        ways.turn(way, batch)
        ways.server.process.send_signal(signal.SIGUSR1)
        path = folder / f"{number}.prof"
        while not path.exists():
            time.sleep(0.05)
        by_owner[way] = shares(path)
    return by_owner


def report(turns: dict[str, list[Turn]], size: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    table = []
    print(f"{'':18}{'solutions/s':>12}{'ms each':>9}{'loop':>7}{'threads':>9}{'engine':>8}")
    for way, way_turns in turns.items():
        row = {"way": way, "solutions_per_s": statistics.median(size / turn.seconds for turn in way_turns)}
        for name in ("loop_ms", "threads_ms", "engine_ms"):
            row[name] = statistics.median(getattr(turn, name) for turn in way_turns)
        table.append(row)
        print(
            f"{way:18}{row['solutions_per_s']:12.1f}{1e3 / row['solutions_per_s']:9.2f}{row['loop_ms']:7.2f}"
            f"{row['threads_ms']:9.2f}{row['engine_ms']:8.2f}"
        )
    ratios = {}
    for way, other, target in TARGETS:
        pairs = zip(turns[way], turns[other], strict=True)
        ratios[f"{way} / {other}"] = ratio = statistics.median(theirs.seconds / mine.seconds for mine, theirs in pairs)
        print(f"throughput of {way} / {other}: {ratio:.2f} (target: {target} or more)")
    return table, ratios


def report_profile(by_owner: dict[str, dict[str, float]], table: list[dict[str, Any]]) -> None:
    print("\nof `loop`, ms per solution (shares under a profile, which makes Python's calls dearer than C's)")
    for row in table:
        parts = sorted(by_owner[row["way"]].items(), key=lambda part: -part[1])
        print(f"{row['way']:18}" + ", ".join(f"{owner} {share * row['loop_ms']:.2f}" for owner, share in parts))


@contextmanager
def serving_tiny(folder: Path, profiles: Path | None = None) -> Iterator[Ways]:
    """profiles: where a server with the profiler's switch writes; None: the server as it is."""
    launcher = (
        [sys.executable, str(Path(__file__).with_name("profiled_server.py")), str(profiles)] if profiles else None
    )
    model = str(folder / "math-shepherd-mistral-7b-prm")  # by this name the server finds the recipe
    with serving(model, OPTIONS, folder / "server.log", launcher) as server:
        ways = Ways(server, model)
        yield ways
        ways.client.close()


def build(folder: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    one_layer = SMALL | {"num_hidden_layers": 1}
    save(folder / "math-shepherd-mistral-7b-prm", lambda: MistralForCausalLM(MistralConfig(**one_layer)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--quick", action="store_true", help="few and small turns: does it run?")
    options.add_argument("--profile", action="store_true", help="also say whose code the event loop's time is")
    options.add_argument("--output", type=Path, help="keep the result here, one line of JSON")
    arguments = options.parse_args()
    os.environ["VLLM_PLUGINS"] = "prm"  # as the README says: it adds our routes
    # So many that a turn is a steady stream, also where 16 share a request: of 216, the client has 2.0 times the
    # throughput of /v1/embeddings, of these 2.3.
    batch = solutions()[:12] if arguments.quick else solutions() * 18
    rounds = 1 if arguments.quick else arguments.rounds
    steps = sum(len(steps) for _, steps in batch) / len(batch)
    document: dict[str, Any] = {"benchmark": "host_http", "solutions": len(batch), "rounds": rounds, "steps": steps}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        with serving_tiny(folder) as ways:
            document["tokens"] = statistics.mean(len(ways._token_ids(one)) for one in batch)
            document["difference"] = check(ways, batch)
            document["table"], document["ratios"] = report(measure(ways, batch, rounds), len(batch))
        if arguments.profile:
            with serving_tiny(folder, folder) as ways:
                check(ways, batch)
                document["profile"] = profile(ways, batch, folder)
            report_profile(document["profile"], document["table"])
    keep(document | {"machine": machine()}, arguments.output)


if __name__ == "__main__":
    main()
