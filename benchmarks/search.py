"""What does a search cost that sends the same prefixes again and again?

A beam search is replayed: four beams, each round sends every beam's whole prefix and the two best fork. Step lengths
are those of real solutions (data/). vLLM's native route computes every prefix whole; ours computes what is new, and
the last, partial block, because vLLM reuses whole blocks. Before timing, both must give the same scores.

`ideal` is what whole-block reuse leaves to compute, counted on the prompts alone: per prompt, its tokens less the
whole blocks of its longest prefix sent before (at least its last token is computed). The last line printed is one
JSON document.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import sys
import tempfile
from pathlib import Path

from engines import TAG, Batches, build_model, engines, largest_difference, replay

BEAMS, KEPT, BLOCK = 4, 2, 32
LENGTHS = Path(__file__).parent / "data" / "prm-lengths.csv"


def real_step_lengths() -> tuple[list[int], list[int]]:
    """Tokens per question and tokens per step, over all solutions."""
    questions, steps = [], []
    with LENGTHS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            questions.append(int(row["question_tokens"]))
            steps += [int(n) for n in row["step_tokens"].split()]
    return questions, steps


def beam_search(rounds: int, seed: int) -> Batches:
    """One batch a round: every beam's whole prefix."""
    rng = random.Random(seed)
    questions, steps = real_step_lengths()
    words = [i for i in range(1000, 12000) if i != TAG]
    beams = [rng.choices(words, k=max(1, rng.choice(questions)))] * BEAMS
    batches = []
    for _ in range(rounds):
        beams = [[*beam, *rng.choices(words, k=max(1, rng.choice(steps) - 1)), TAG] for beam in beams]
        batches.append(beams)
        beams = [beam for beam in rng.sample(beams, KEPT) for _ in range(BEAMS // KEPT)]
    return batches


def ideal(batches: Batches) -> int:
    """Tokens that whole-block reuse leaves to compute, with an endless cache."""
    seen: set[tuple[int, ...]] = set()
    computed = 0
    for batch in batches:
        for ids in batch:
            reused = 0
            while reused + BLOCK < len(ids) and tuple(ids[: reused + BLOCK]) in seen:
                reused += BLOCK
            computed += len(ids) - reused
            seen.update(tuple(ids[:end]) for end in range(BLOCK, len(ids) + 1, BLOCK))
    return computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", help="a checkpoint folder instead of the random 60M Llama")
    parser.add_argument("--output", type=Path, help="also write the JSON document to this file")
    arguments = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.model:
            build_model(Path(folder))
        options = {"max_model_len": 8192, "block_size": BLOCK, "max_num_batched_tokens": 8192}
        with engines(arguments.model or folder, ["ours", "native"], **options) as pipes:
            for way in pipes:
                replay(pipes[way], beam_search(3, seed=99))  # warm up
            for rounds in arguments.rounds:
                for repeat in range(arguments.repeats):
                    batches = beam_search(rounds, seed=repeat)
                    found = {
                        way: replay(pipes[way], batches) for way in (list(pipes) if repeat % 2 else reversed(pipes))
                    }
                    ours, native = found["ours"], found["native"]
                    difference = largest_difference(ours, native)
                    assert difference < 1e-5, f"ours and native differ by {difference}"
                    sent = sum(len(ids) for batch in batches for ids in batch)
                    rows.append(
                        {
                            "rounds": rounds,
                            "sent": sent,
                            "computed": sent - sum(ours.cached),
                            "ideal": ideal(batches),
                            "ours_s": ours.seconds,
                            "native_s": native.seconds,
                            "difference": difference,
                        }
                    )
                    print(rows[-1], file=sys.stderr)
    report(rows, arguments.output)


def report(rows: list[dict], output: Path | None) -> None:
    print(f"beam search, {BEAMS} beams, blocks of {BLOCK} tokens, real step lengths, float32")
    print(f"{'rounds':>7}{'sent':>8}{'computed':>10}{'ideal':>8}{'native s':>10}{'ours s':>8}{'faster':>8}")
    table = []
    for rounds in sorted({row["rounds"] for row in rows}):
        total = {k: sum(row[k] for row in rows if row["rounds"] == rounds) for k in rows[0] if k != "difference"}
        total["rounds"], total["faster"] = rounds, total["native_s"] / total["ours_s"]
        table.append(total)
        print(
            f"{rounds:7}{total['sent']:8}{total['computed']:10}{total['ideal']:8}{total['native_s']:10.1f}"
            f"{total['ours_s']:8.1f}{total['faster']:8.1f}"
        )
    document = {
        "benchmark": "search",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "table": table,
        "runs": rows,
    }
    line = json.dumps(document)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
