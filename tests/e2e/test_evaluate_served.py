"""Benchmarks on the embedded model: made-up arithmetic in the benchmarks' own formats, scored by a real engine."""

from __future__ import annotations

import json
import random
import sys

import pytest
from conftest import ROOT, TINY_PRM

from vllm_prm import PRM
from vllm_prm.evaluate import evaluate, load_benchmark, score_benchmark
from vllm_prm.report import benchmark_rows, write_report

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import is_held_out, solution  # noqa: E402 - examples are no package


def held_out(rng, mistakes):
    while True:
        one = solution(rng, mistakes=mistakes)
        if is_held_out(one.question):
            return one


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """100 held-out solutions in ProcessBench's format, and 40 questions with 4 candidates."""
    folder, rng = tmp_path_factory.mktemp("benchmarks"), random.Random(7)
    process = []
    for i in range(100):
        one = held_out(rng, mistakes=i % 2)
        label = -1 if one.first_error is None else one.first_error
        process.append(
            {
                "id": f"arithmetic-{i}",
                "generator": "arithmetic.py",
                "problem": one.question,
                "steps": one.steps,
                "final_answer_correct": label == -1,
                "label": label,
            }
        )
    choices = []
    for _ in range(40):
        one = held_out(rng, mistakes=0)
        candidates = {one.steps}
        while len(candidates) < 4:
            candidates.add((altered(rng, one.steps[0]), *one.steps[1:]))
        order = sorted(candidates)
        rng.shuffle(order)
        choices.append(
            {
                "question": one.question,
                "candidates": [
                    {"steps": steps, "answer": steps[-1].split("= ")[1], "correct": steps == one.steps}
                    for steps in order
                ],
            }
        )
    paths = {}
    for name, rows in (("processbench", process), ("choices", choices)):
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def altered(rng, step):
    """The same sum with another result."""
    head, result = step.rsplit("= ", 1)
    return f"{head}= {rng.choice([n for n in range(25) if n != int(result)])}"


@pytest.fixture(scope="module")
def prm():
    with PRM(str(TINY_PRM), dtype="float32", enforce_eager=True, max_model_len=512) as one:
        yield one


def test_processbench(prm, files, tmp_path):
    benchmark = load_benchmark(files["processbench"])
    scores = score_benchmark(benchmark, prm, progress=False)
    result = evaluate(benchmark, scores)
    assert result.splits[0].num_error == result.splits[0].num_correct == 50
    assert result.splits[0].unscored == 0
    assert result.f1 >= 90
    tuned = evaluate(benchmark, scores, tune_on="processbench")
    assert tuned.splits[0].f1 >= result.f1
    # The figure is about the scores: with each solution given the next one's label, nothing is left of it.
    rows = [json.loads(line) for line in files["processbench"].read_text(encoding="utf-8").splitlines()]
    shifted = tmp_path / "shifted.jsonl"
    labels = [row["label"] for row in rows[1:]] + [-1]
    moved = [{**row, "label": min(label, len(row["steps"]) - 1)} for row, label in zip(rows, labels, strict=True)]
    shifted.write_text("".join(json.dumps(row) + "\n" for row in moved), encoding="utf-8")
    assert evaluate(load_benchmark(shifted), scores).f1 <= 10
    page = write_report(tmp_path / "report.html", benchmark_rows(benchmark, scores)).read_text(encoding="utf-8")
    assert page.count("<details") == 100


def test_best_of_n(prm, files):
    result = evaluate(load_benchmark(files["choices"]), prm, progress=False)
    last = result.rows[-1]
    assert (last.n, result.mean_accuracy, last.oracle) == (4, 25.0, 100.0)
    assert last.best_of_n >= 90


def test_rewards(prm):
    rng = random.Random(3)
    right, wrong = held_out(rng, 0), held_out(rng, 1)
    reward = prm.reward_fn(split="\n")
    given = reward(
        prompts=[right.question, [{"role": "user", "content": wrong.question}], right.question],
        completions=["\n".join(right.steps), [{"role": "assistant", "content": "\n".join(wrong.steps)}], ""],
        completion_ids=[[1], [1], [1]],
    )
    assert given[0] > 0.5 > given[1]
    assert given[2] is None
    assert reward.__name__ == "tiny-prm_min"
