"""Two engines of one server (--data-parallel-size 2): are prefixes found where they were computed, and do both work?

Beam searches of the tiny PRM as in routed.py. What a search computes, over what one engine alone computes, says how
many prefixes went to the engine that did not have them. vLLM's own balance is asked by /v1/embeddings with the prompts
as token ids, in the same requests; /v1/prm/score sends a question's solutions to one engine. Then solutions of a single
question, which both engines are to share.

Counts tokens, not seconds: engines on one machine share its processors. The figures are vLLM's own, of its /metrics.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from routed import MODEL, OPTIONS, TOLERANCE, Solution, difference, post, searches, solution
from serve import Server, serving
from transformers import AutoTokenizer
from turns import keep, machine

from vllm_prm import PRMClient, find_recipe
from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST, packed
from vllm_prm.prompts import scorings
from vllm_prm.recipes import bind

REQUESTS = 4  # at once: PRMClient's 64 solutions under way, 16 in each
SETTLED_S = 1.0  # vLLM's figures come with the engine's next step, or a moment later
Send = Callable[[str, Sequence[Solution]], list[list[float]]]


def by_score(url: str, solutions: Sequence[Solution]) -> list[list[float]]:
    """Our route: a question's solutions go to one engine."""
    with PRMClient(url) as client:
        return [list(result.step_scores) for result in client.score_batch(solutions, progress=False)]


def by_embeddings(url: str, solutions: Sequence[Solution]) -> list[list[float]]:
    """vLLM's route, the same prompts in the same requests: each prompt goes where vLLM likes."""
    recipe = bind(find_recipe(str(MODEL)), AutoTokenizer.from_pretrained(MODEL))
    prompts = [list(scoring.prompts[0].token_ids) for scoring in scorings(solutions, recipe)]
    packs = packed(dict(enumerate(solutions)), SOLUTIONS_PER_REQUEST)
    with ThreadPoolExecutor(REQUESTS) as threads:
        answers = threads.map(lambda pack: _embeddings(url, [prompts[i] for i in pack]), packs)
        scores = {
            i: one for pack, answer in zip(packs, answers, strict=True) for i, one in zip(pack, answer, strict=True)
        }
    return [scores[i] for i in range(len(solutions))]


def _embeddings(url: str, prompts: list[list[int]]) -> list[list[float]]:
    body = json.dumps({"model": "prm", "input": prompts}).encode()
    request = urllib.request.Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return [entry["embedding"] for entry in json.load(answer)["data"]]


def _tokens(server: Server) -> tuple[Counter, Counter]:
    """So far: tokens that each engine was sent, and those of them that it found in its cache."""
    time.sleep(SETTLED_S)
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=30) as page:
        text = page.read().decode()
    found = [Counter(), Counter()]
    for counts, name in zip(found, ("queries", "hits"), strict=True):
        for engine, value in re.findall(rf'^vllm:prefix_cache_{name}_total\{{engine="(\d+)".*\}} (\S+)$', text, re.M):
            counts[int(engine)] += int(float(value))
    return found[0], found[1]


def counted(server: Server, send: Send, rounds: list[list[Solution]]) -> dict[str, Any]:
    """What is sent and computed, by engine, and the scores."""
    post(f"{server.url}/reset_prefix_cache")
    sent_before, cached_before = _tokens(server)
    scores = [one for solutions in rounds for one in send(server.url, solutions)]
    sent, cached = _tokens(server)
    sent.subtract(sent_before)
    cached.subtract(cached_before)
    computed = {engine: sent[engine] - cached[engine] for engine in sorted(sent)}
    return {"sent": sent.total(), "computed": sum(computed.values()), "by_engine": computed, "scores": scores}


def one_question(count: int, steps: int) -> list[list[Solution]]:
    """As a best-of-N sends them: all at once, with no step in common. No search has this question."""
    rng = random.Random(1)
    question = solution(rng).question
    made = [[f"{rng.randint(1, 99)} + {rng.randint(1, 99)} = 7" for _ in range(steps)] for _ in range(count)]
    return [[(question, one) for one in made]]


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    os.environ |= {"VLLM_PLUGINS": "prm", "VLLM_SERVER_DEV_MODE": "1"}  # the latter for /reset_prefix_cache
    rounds = searches(arguments.questions, arguments.beams, arguments.rounds)
    many = one_question(arguments.candidates, arguments.rounds)
    options = {**OPTIONS, "max_num_batched_tokens": arguments.batch}
    with serving(str(MODEL), options, folder / "one.log") as server:
        alone = {"search": counted(server, by_score, rounds), "one question": counted(server, by_score, many)}
    table: dict[str, Any] = {f"one engine, {work}": row for work, row in alone.items()}
    with serving(str(MODEL), {**options, "data_parallel_size": 2}, folder / "two.log") as server:
        for name, send in (("vLLM's balance (/v1/embeddings)", by_embeddings), ("/v1/prm/score", by_score)):
            for work, sent in (("search", rounds), ("one question", many)):
                row = table[f"{name}, {work}"] = counted(server, send, sent)
                assert difference(row["scores"], alone[work]["scores"]) < TOLERANCE, f"{name}: other scores"
                row["of_one_engine"] = round(row["computed"] / alone[work]["computed"], 3)
    for name, row in table.items():
        row.pop("scores")
        print(f"{name:48} {row}")
    return {"benchmark": "data_parallel", "ways": table, "machine": machine()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--questions", type=int, default=16)
    options.add_argument("--beams", type=int, default=4)
    options.add_argument("--rounds", type=int, default=24)
    options.add_argument("--candidates", type=int, default=64, help="of the single question")
    options.add_argument("--batch", type=int, default=2048, help="tokens of an engine's batch")
    options.add_argument("--quick", action="store_true", help="a few short searches")
    options.add_argument("--output", type=Path, help="keep the result here, one line of JSON")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.questions, arguments.rounds, arguments.candidates = 4, 6, 16
    with tempfile.TemporaryDirectory() as folder:
        document = measured(arguments, Path(folder))
    keep(document, arguments.output)


if __name__ == "__main__":
    main()
