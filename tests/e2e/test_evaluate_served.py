"""Benchmarks on the embedded model: made-up arithmetic in the benchmarks' own formats, scored by a real engine."""

from __future__ import annotations

import json
import random
import sys

import pytest
from benchmark_files import rated, rated_step, write
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


def test_labelled_steps(prm, tmp_path):
    """PRM800K's form: the path up to its first error, and for each step of a right one a candidate that is wrong."""
    rng, rows = random.Random(11), []
    for i in range(60):
        one = held_out(rng, mistakes=i % 2)
        if one.first_error is None:
            steps = [rated_step((altered(rng, step), -1), (step, 1), chosen=1) for step in one.steps]
        else:
            last = one.first_error
            steps = [
                *(rated_step((step, 1)) for step in one.steps[:last]),
                rated_step((one.steps[last], -1), chosen=None),
            ]
        rows.append(rated(*steps, given=list(one.steps)))
        rows[-1]["question"]["problem"] = one.question
    path = write(tmp_path / "phase2_test.jsonl", *rows)
    benchmark = load_benchmark(path, all_completions=True)
    assert len(benchmark.solutions) == 60 + sum(len(row["label"]["steps"]) for row in rows[::2])
    scores = score_benchmark(benchmark, prm, progress=False)
    figures = evaluate(benchmark, scores).overall
    assert figures.unscored == 0
    assert min(figures.accuracy, figures.roc_auc, figures.first_error.f1) >= 90
    assert figures.calibration_error <= 10
    # The figures are about the scores: without what belongs to what, ROC AUC is near chance, 50.
    step_scores = [score for result in scores for score in result.step_scores]
    rng.shuffle(step_scores)
    remaining = iter(step_scores)
    mixed = [tuple(next(remaining) for _ in result.step_scores) for result in scores]
    assert 30 <= evaluate(benchmark, mixed).overall.roc_auc <= 70
    page = write_report(tmp_path / "report.html", benchmark_rows(benchmark, scores)).read_text(encoding="utf-8")
    assert f"Expected calibration error {figures.calibration_error:.1f} %" in page
    # The same steps in TRL's form have the same scores, and so the same figures.
    stepwise = [
        {"prompt": row["question"]["problem"], "completions": steps, "labels": labels}
        for row, (steps, labels) in zip(rows, map(path_of, rows), strict=True)
    ]
    again = load_benchmark(write(tmp_path / "stepwise.jsonl", *stepwise))
    paths = evaluate(load_benchmark(path), prm, progress=False).overall
    same = evaluate(again, prm, progress=False).overall
    assert (same.accuracy, same.first_error, same.steps) == (paths.accuracy, paths.first_error, paths.steps)
    assert same.roc_auc == pytest.approx(paths.roc_auc)


def path_of(row):
    """The texts of a PRM800K row's path, and whether each is right."""
    taken = [step["completions"][step["chosen_completion"] or 0] for step in row["label"]["steps"]]
    return [one["text"] for one in taken], [one["rating"] == 1 for one in taken]


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
