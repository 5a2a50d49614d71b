"""How much slower is scoring steps than the forward pass alone, and than vLLM's native route?

All prompts differ, so nothing can be reused: this is best-of-N without shared prefixes, not search (see search.py).
Before timing, all ways that score must give the same scores. Ratios are of neighbouring runs, round by round. The
last line printed is one JSON document.
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
from pathlib import Path

from engines import TAG, VOCABULARY, Batches, build_model, engines, largest_difference, replay

# Mean lengths of PRMBench solutions in Mistral v1 tokens (data/): a question of 50, 11 steps of 30, the tag included.
QUESTION_TOKENS, STEPS, STEP_TOKENS = 50, 11, 30
OTHERS = ["floor", "native"]


def make_batch(count: int) -> Batches:
    rng = random.Random(0)
    words = [i for i in range(1000, 12000) if i != TAG]
    prompts = []
    for _ in range(count):
        ids = rng.choices(words, k=QUESTION_TOKENS)
        for _ in range(STEPS):
            ids += [*rng.choices(words, k=STEP_TOKENS - 1), TAG]
        prompts.append(ids)
    return [prompts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", help="a checkpoint folder instead of the random 60M Llama")
    parser.add_argument("--eager", action="store_true", help="no torch.compile: the engines start faster")
    parser.add_argument("--output", type=Path, help="also write the JSON document to this file")
    arguments = parser.parse_args()

    batches, ways = make_batch(arguments.prompts), ["whole", *OTHERS]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        parameters = None if arguments.model else build_model(Path(folder))
        with engines(arguments.model or folder, ways, max_model_len=1024, enforce_eager=arguments.eager) as pipes:
            first = {way: replay(pipes[way], batches) for way in ways}
            difference = largest_difference(first["whole"], first["native"])
            assert difference < 1e-5, f"ours and native differ by {difference}: nothing to time"
            for number in range(arguments.rounds):
                for way in ways[number % 3 :] + ways[: number % 3]:  # no way is always first
                    seconds[way].append(replay(pipes[way], batches).seconds)
                shown = {way: round(values[-1], 2) for way, values in seconds.items()}
                print(f"round {number + 1}/{arguments.rounds}: {shown}", file=sys.stderr)

    print(f"{arguments.prompts} solutions of {QUESTION_TOKENS} + {STEPS} x {STEP_TOKENS} tokens, float32")
    print(f"{'':8}{'seconds':>9}{'solutions/s':>13}")
    for way, values in seconds.items():
        middle = statistics.median(values)
        print(f"{'ours' if way == 'whole' else way:8}{middle:9.2f}{arguments.prompts / middle:13.1f}")
    ratios = {}
    for other in OTHERS:
        pairs = [theirs / ours for ours, theirs in zip(seconds["whole"], seconds[other], strict=True)]
        best = min(seconds[other]) / min(seconds["whole"])
        ratios[other] = {"min": min(pairs), "median": statistics.median(pairs), "max": max(pairs), "best/best": best}
        print(f"throughput of ours / {other}: " + ", ".join(f"{k} {v:.3f}" for k, v in ratios[other].items()))
    document = {
        "benchmark": "throughput",
        "prompts": arguments.prompts,
        "parameters": parameters,
        "eager": arguments.eager,
        "vocabulary": VOCABULARY if parameters else None,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "seconds": seconds,
        "throughput_of_ours_over": ratios,
        "largest_score_difference_to_native": difference,
    }
    line = json.dumps(document)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
