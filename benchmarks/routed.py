"""Two servers behind vllm-router: are prefixes found where they were computed, and what if one server is killed?

Beam searches of the tiny PRM (examples/tiny-prm), all questions at once: in every round each beam's whole solution is
sent again, one step longer. What a search computes, over what one server alone computes, says how many prefixes went to
the server that did not have them. The client names a session per question (header X-Session-ID), which the router's
policy `consistent_hash` follows. Then 2,000 solutions, and one server is killed when a sixth of them is scored.

Needs `pip install vllm-router` in this Python's environment. Counts tokens, not seconds: servers on one machine share
its processors.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from serve import Server, serving
from turns import keep, machine

from vllm_prm import PRMClient

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "examples"))
from arithmetic import solution  # noqa: E402 - examples are no package

MODEL = ROOT / "examples" / "tiny-prm"
# Two engines share the machine's memory, so each says how much it takes. The smallest blocks of a CPU.
OPTIONS = {"task": "embed", "dtype": "float32", "enforce_eager": True, "block_size": 32, "gpu_memory_utilization": 0.2}
TOLERANCE = 1e-5  # float32's: prompts meet other prompts in a batch
START_UP_S = 60  # the router's
# (name, the router's policy; None: one server, no router; keep_questions_apart)
WAYS = (
    ("one server, no router", None, False),
    ("round_robin", "round_robin", False),
    ("cache_aware (the router's default)", "cache_aware", False),
    ("consistent_hash", "consistent_hash", False),
    ("consistent_hash, questions kept apart", "consistent_hash", True),
)

Solution = tuple[str, list[str]]


@contextmanager
def router(servers: list[str], policy: str, log: Path) -> Iterator[str]:
    """Its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with socket.socket() as free:  # it has a port of its own for its figures
        free.bind(("127.0.0.1", 0))
        figures = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm_router.launch_router", "--worker-urls", *servers, "--policy", policy]
    command += ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(figures)]
    command += ["--worker-startup-check-interval", "1", "--health-check-interval-secs", "2"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_UP_S
            while not _is_up(f"http://127.0.0.1:{port}"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"vllm-router did not start; is it installed?\n{log.read_text()[-3000:]}")
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/prm/recipe", timeout=5):
            return True
    except OSError:
        return False


def searches(questions: int, beams: int, rounds: int) -> list[list[Solution]]:
    """Per round, the solutions that are sent: each beam goes on by a step that the others do not have.

    A question's search ends somewhere in the second half of the rounds, so later batches hold fewer questions.
    """
    rng = random.Random(0)
    started = [solution(rng) for _ in range(questions)]
    last = [rounds, *(rng.randint(rounds // 2, rounds) for _ in started[1:])]
    beams_of = [[list(one.steps[:1]) for _ in range(beams)] for one in started]
    sent = []
    for number in range(1, rounds + 1):
        batch: list[Solution] = []
        for one, group, end in zip(started, beams_of, last, strict=True):
            parent = rng.choice(group)  # the best beam's children: they share all but the last step
            group[:] = [[*parent, f"{rng.choice(one.steps)} {rng.randint(10, 99)}"] for _ in group]
            batch += [(one.question, list(beam)) for beam in group if number <= end]
        sent.append(batch)
    return sent


def searched(url: str, apart: bool, rounds: list[list[Solution]], servers: list[Server]) -> dict[str, Any]:
    """What a search sends and computes, and its scores."""
    for server in servers:
        post(f"{server.url}/reset_prefix_cache")
    sent = cached = 0
    scores = []
    with PRMClient(url, keep_questions_apart=apart) as client:
        for solutions in rounds:
            results = client.score_batch(solutions, progress=False)
            sent += sum(result.num_prompt_tokens for result in results)
            cached += sum(result.num_cached_tokens for result in results)
            scores += [list(result.step_scores) for result in results]
    return {"sent": sent, "computed": sent - cached, "scores": scores}


def killed(url: str, solutions: list[Solution], server: Server, expected: list[list[float]]) -> dict[str, Any]:
    """Score all of them; the server is killed when a sixth is scored. Raises AssertionError if one is lost or wrong."""
    before = _count(server)
    threading.Thread(target=_kill_after, args=(server, before + len(solutions) // 6), daemon=True).start()
    begun = time.monotonic()
    with PRMClient(url, keep_questions_apart=True, max_concurrency=32) as client:
        results = client.score_batch(solutions, on_error="return", progress=False)
    seconds = time.monotonic() - begun
    assert server.process.poll() is not None, "the server was not killed in time: give more --solutions"
    errors = [str(result) for result in results if isinstance(result, Exception)]
    assert not errors, f"{len(errors)} of {len(results)} solutions have no scores; the first: {errors[0]}"
    found = [list(result.step_scores) for result in results]
    return {"solutions": len(results), "difference": difference(found, expected), "seconds": round(seconds, 1)}


def _kill_after(server: Server, count: int) -> None:
    while _count(server) < count:
        time.sleep(0.02)
    os.kill(server.process.pid, signal.SIGKILL)


def _count(server: Server) -> float:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("prm_solutions_total"))


def post(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, b"", method="POST"), timeout=60):
        pass


def difference(scores: list[list[float]], expected: list[list[float]]) -> float:
    assert [len(one) for one in scores] == [len(one) for one in expected], "a step is missing"
    return max(abs(a - b) for one, other in zip(scores, expected, strict=True) for a, b in zip(one, other, strict=True))


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    os.environ |= {"VLLM_PLUGINS": "prm", "VLLM_SERVER_DEV_MODE": "1"}  # the latter for /reset_prefix_cache
    rounds = searches(arguments.questions, arguments.beams, arguments.rounds)
    table: dict[str, Any] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(str(MODEL), OPTIONS, folder / f"server{i}.log")) for i in range(2)]
        urls = [server.url for server in servers]
        for name, policy, apart in WAYS:
            with ExitStack() as routed:
                url = routed.enter_context(router(urls, policy, folder / "router.log")) if policy else urls[0]
                table[name] = searched(url, apart, rounds, servers)
        alone = table[WAYS[0][0]]
        for name, row in table.items():
            assert difference(row["scores"], alone["scores"]) < TOLERANCE, f"{name}: other scores"
            print(f"{name:40} {row['computed']:8,} computed of {row['sent']:,}: "
                  f"{row['computed'] / alone['computed']:.2f} times one server's")  # fmt: skip
        many = [pair for number in range(-(-arguments.solutions // len(rounds[0]))) for pair in _varied(rounds, number)]
        many = many[: arguments.solutions]
        with PRMClient(urls[0]) as client:
            expected = [list(result.step_scores) for result in client.score_batch(many, progress=False)]
        post(f"{urls[0]}/reset_prefix_cache")
        url = stack.enter_context(router(urls, "consistent_hash", folder / "router.log"))
        fault = killed(url, many, servers[0], expected)
        print(f"one of two servers killed: all of {fault['solutions']} solutions scored, difference "
              f"{fault['difference']:.1e}, in {fault['seconds']} s")  # fmt: skip
    ways = {name: {key: row[key] for key in ("sent", "computed")} for name, row in table.items()}
    return {"benchmark": "routed", "ways": ways, "killed": fault, "machine": machine()}


def _varied(rounds: list[list[Solution]], number: int) -> list[Solution]:
    """Solutions of half the length, to questions with another ending, so that they are new."""
    return [(f"{question} {number} times.", steps) for question, steps in rounds[len(rounds) // 2 - 1]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--questions", type=int, default=16)
    options.add_argument("--beams", type=int, default=4)
    options.add_argument("--rounds", type=int, default=24)
    options.add_argument("--solutions", type=int, default=2000, help="scored while a server is killed")
    options.add_argument("--output", type=Path, help="keep the result here, one line of JSON")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        document = measured(arguments, Path(folder))
    keep(document, arguments.output)


if __name__ == "__main__":
    main()
