"""What a server that generates, or one without our plugin, costs beside a pooling server, over HTTP.

  pooling    PRMClient on `vllm serve --task embed`: a request with all steps, scores kept beside the prefix cache
  generated  PRMClient on `vllm serve --prm RECIPE --runner generate`: the server reads each new step by itself
  plain      PRMClient(recipe=...) on `vllm serve` without our plugin: the client reads each new step by itself

All three send the same texts in turns, in a new order each time; best of N cold, and searches that send every beam's
whole prefix each round. Every turn has questions of its own, so nothing of it is in a cache, and every way gets the
scores of the first. Models and blocks are those of one_engine.py. computed: prompt tokens that did not come from the
prefix cache, by the server's /metrics; unique: tokens that begin no other prompt of the turn.

memory: what a server's processes hold after all turns, in proportional shares (PSS), weights and KV cache included. One
that generates and scores does the work of two: of a plain one that generates, and a pooling one that scores.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from model import build_model
from serve import Server, serving
from texts import Solution, solutions
from turns import keep, machine
from workloads import unique

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from checkpoints import real_tokenizer  # noqa: E402 - the tests' copy of Mistral's tokenizer

RECIPE = "math-shepherd"
WAYS = {"pooling": {"task": "embed"}, "generated": {"prm": RECIPE, "runner": "generate"}, "plain": {}}
OPTIONS = {"dtype": "float32", "block_size": 32, "max_model_len": 8192, "max_num_batched_tokens": 8192}
TOLERANCE = 1e-4  # as in one_engine.py: logits of size 20, and a softmax over the vocabulary, in float32


@dataclass
class Way:
    server: Server
    client: Any
    seconds: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)

    def turn(self, rounds: list[list[Solution]]) -> list[list[float]]:
        """Step scores of every solution of every round, sent one round after the other."""
        before, begun = self._computed(), time.perf_counter()
        results = [self.client.score_batch(batch, progress=False) for batch in rounds]
        self.seconds.append(time.perf_counter() - begun)
        self.computed.append(self._computed() - before)
        return [list(scores.step_scores) for batch in results for scores in batch]

    def _computed(self) -> float:
        with urllib.request.urlopen(f"{self.server.url}/metrics") as answer:
            text = answer.read().decode()
        queries, hits = (
            sum(map(float, re.findall(rf"^vllm:prefix_cache_{name}_total{{[^}}]*}} (\S+)$", text, re.MULTILINE)))
            for name in ("queries", "hits")
        )
        return queries - hits

    def megabytes(self) -> int:
        process = psutil.Process(self.server.process.pid)
        return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)]) >> 20


def best_of_n(rng: random.Random, candidates: int) -> list[list[Solution]]:
    question = _question(rng)
    return [[(question, rng.choice(solutions())[1]) for _ in range(candidates)]]


def search(rng: random.Random, rounds: int, beams: int = 4, kept: int = 2) -> list[list[Solution]]:
    """Every round adds a step of some solution to each beam; then some of them fork."""
    question, steps = _question(rng), [step for _, its_steps in solutions() for step in its_steps]
    fronts: list[list[str]] = [[]] * beams
    batches = []
    for _ in range(rounds):
        fronts = [[*front, rng.choice(steps)] for front in fronts]
        batches.append([(question, front) for front in fronts])
        fronts = [front for front in rng.sample(fronts, kept) for _ in range(beams // kept)]
    return batches


def _question(rng: random.Random) -> str:
    return f"Problem {rng.randrange(10**9)}. {rng.choice(solutions())[0]}"  # no two turns begin alike


def turns_of(arguments: argparse.Namespace) -> list[tuple[str, list[list[Solution]]]]:
    rng = random.Random(5)
    turns = [("warm-up", search(rng, 3))]
    cold = f"best of {arguments.candidates}, cold"
    turns += [(cold, best_of_n(rng, arguments.candidates)) for _ in range(arguments.turns)]
    for rounds in arguments.rounds:
        turns += [(f"search of {rounds} rounds", search(rng, rounds)) for _ in range(arguments.repeats)]
    return turns


@contextmanager
def started(folder: Path, eager: bool) -> Iterator[dict[str, Way]]:
    from vllm_prm import PRMClient

    model = str(folder / "math-shepherd-mistral-7b-prm")  # by this name a server with our plugin finds the recipe
    with ExitStack() as stack:
        ways = {}
        for name, options in WAYS.items():
            os.environ["VLLM_PLUGINS"] = "" if name == "plain" else "prm"
            server = stack.enter_context(serving(model, OPTIONS | {"enforce_eager": eager} | options, folder / name))
            client = PRMClient(server.url, **({"recipe": RECIPE, "tokenizer": model} if name == "plain" else {}))
            ways[name] = Way(server, stack.enter_context(client))
        yield ways


def play(ways: dict[str, Way], turns: list[tuple[str, list[list[Solution]]]]) -> float:
    """Every turn by every way; the largest difference between two ways' scores."""
    order, largest = random.Random(0), 0.0
    for number, (kind, rounds) in enumerate(turns):
        scores = {name: ways[name].turn(rounds) for name in order.sample([*ways], len(ways))}
        for found in scores.values():
            for mine, theirs in zip(found, scores["pooling"], strict=True):
                largest = max(largest, *(abs(a - b) for a, b in zip(mine, theirs, strict=True)))
        assert largest <= TOLERANCE, f"scores differ by {largest} in turn {number}"
        print(f"{kind}: { {name: round(way.seconds[-1], 3) for name, way in ways.items()} }", file=sys.stderr)
    return largest


def report(ways: dict[str, Way], turns: list[tuple[str, list[list[Solution]]]], model: str) -> list[dict[str, Any]]:
    from transformers import AutoTokenizer

    from vllm_prm import load_recipe
    from vllm_prm.prompts import scorings
    from vllm_prm.recipes import bind

    bound = bind(load_recipe(RECIPE), AutoTokenizer.from_pretrained(model))
    table = []
    for kind in dict.fromkeys(kind for kind, _ in turns[1:]):
        numbers = [number for number, (name, _) in enumerate(turns) if name == kind]
        prompts = [scorings(batch, bound, None) for number in numbers for batch in turns[number][1]]
        ids = [[list(one.prompts[0].token_ids) for one in batch] for batch in prompts]
        row: dict[str, Any] = {"kind": kind, "turns": len(numbers), "unique": unique(ids)}
        for name, way in ways.items():
            row[f"computed_{name}"] = sum(way.computed[n] for n in numbers)
            ratios = [way.seconds[n] / ways["pooling"].seconds[n] for n in numbers]
            row[f"{name}_over_pooling"] = statistics.median(ratios)
            row[f"seconds_{name}"] = sum(way.seconds[n] for n in numbers)
        table.append(row)
        parts = [
            f"{name} {row[f'computed_{name}']:,.0f} tokens, {row[f'seconds_{name}']:.2f} s, "
            f"{row[f'{name}_over_pooling']:.2f}"
            for name in ways
        ]
        print(f"{kind}, {row['turns']} turns, {row['unique']:,} unique: {'; '.join(parts)}")
    return table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--candidates", type=int, default=8)
    options.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    options.add_argument("--turns", type=int, default=8, help="of best of N")
    options.add_argument("--repeats", type=int, default=3, help="searches of each length")
    options.add_argument("--quick", action="store_true", help="few and small turns, eager: does it run?")
    options.add_argument("--output", type=Path, help="keep the result here, one line of JSON")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.turns, arguments.repeats = [3], 2, 1
    turns = turns_of(arguments)
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "math-shepherd-mistral-7b-prm"
        parameters = build_model(model, 32_000)
        real_tokenizer().save_pretrained(model)
        with started(Path(name), eager=arguments.quick) as ways:
            document: dict[str, Any] = {"benchmark": "one_engine_http", "difference": play(ways, turns)}
            document["table"] = report(ways, turns, str(model))
            document["megabytes"] = held = {way: ways[way].megabytes() for way in ways}
    two = held["plain"] + held["pooling"]
    print(f"memory: {held['generated']} MB for one server that does both, {two} MB for two servers")
    keep(document | {"model": f"random Llama, {parameters} parameters", "machine": machine()}, arguments.output)


if __name__ == "__main__":
    main()
