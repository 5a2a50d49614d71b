"""Benchmarks: metrics against the same figures worked out step by step from their definitions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from benchmark_files import plain, prm_row, solution, write
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_prm.errors import BatchError, EngineError, RequestError
from vllm_prm.evaluate import best_threshold, evaluate, evaluate_processbench, load_benchmark, score_benchmark
from vllm_prm.evaluate.processbench import ProcessBenchExample
from vllm_prm.recipes import load_recipe
from vllm_prm.scorer import Scorer, checked_items, settled
from vllm_prm.scores import StepScores

PRMBENCH = Path(__file__).parents[1] / "data" / "prmbench-36.jsonl"


class Hashes(Scorer):
    """A fixed score for every step, from its text; a step 'too long' is refused, 'down' is the scorer's failure."""

    recipe = load_recipe("math-shepherd")

    def score_batch(self, items, *, on_error="raise", progress=True):
        return settled([self._one(*item) for item in checked_items(items, on_error)], on_error)

    def _one(self, question, steps):
        if "too long" in steps:
            return RequestError("too long")
        if "down" in steps:
            return EngineError("the server is gone")
        return StepScores(tuple(map(hashed, steps)), aggregation="min")


def hashed(step):
    return hashlib.sha256(step.encode()).digest()[1] / 255


# ---- ProcessBench

ROWS = [
    solution([0.9, 0.2, 0.8], 1),  # found
    solution([0.9, 0.2, 0.1], 2),  # a step too early
    solution([0.9, 0.5], 1),  # 0.5 is not below 0.5: missed
    solution([0.4], 0),  # found
    solution([0.9, 0.9], -1),  # passed
    solution([0.9, 0.1], -1),  # a false alarm
    solution([0.5], -1),  # passed
]


def test_processbench_by_hand(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "gsm8k.jsonl", *ROWS))
    result = evaluate(benchmark, plain(benchmark))
    split = result.splits[0]
    assert (split.name, split.num_error, split.num_correct) == ("gsm8k", 4, 3)
    assert split.acc_error == 50.0
    assert split.acc_correct == pytest.approx(200 / 3)
    assert split.f1 == result.f1 == pytest.approx(2 * 50 * (200 / 3) / (50 + 200 / 3))
    assert "57.1" in result.table()
    assert json.loads(json.dumps(result.to_dict()))["splits"][0]["acc_error"] == 50.0
    assert evaluate(benchmark, plain(benchmark), threshold=0.51).splits[0].acc_error == 75.0
    with_their_own = [StepScores(tuple(scores), threshold=0.51) for scores in plain(benchmark)]
    assert evaluate(benchmark, with_their_own).splits[0].acc_error == 75.0


def test_a_published_row_comes_out():
    """Math-Shepherd-PRM-7B on the math split: 18.0 / 82.0 / 29.5 (https://arxiv.org/abs/2412.06559).

    107 of 594 and 333 of 406 are the counts that these percentages stand for.
    """
    examples = [ProcessBenchExample(str(i), "q", ("a",), 0 if i < 594 else -1) for i in range(1000)]
    scores = [(0.1,) if i < 107 else (0.9,) for i in range(594)] + [(0.9,) if i < 333 else (0.1,) for i in range(406)]
    split = evaluate_processbench({"math": examples}, {"math": scores}).splits[0]
    assert [round(x, 1) for x in (split.acc_error, split.acc_correct, split.f1)] == [18.0, 82.0, 29.5]


def test_several_splits_and_their_mean(tmp_path):
    all_right = [solution([0.9, 0.1], 1), solution([0.9], -1)]
    (tmp_path / "math.json").write_text(json.dumps(all_right))  # a JSON list, as the dataset's own files are
    benchmark = load_benchmark([write(tmp_path / "gsm8k.jsonl", *ROWS), tmp_path / "math.json"])
    result = evaluate(benchmark, plain(benchmark))
    assert [split.name for split in result.splits] == ["gsm8k", "math"]
    assert result.splits[1].f1 == 100.0
    assert result.f1 == pytest.approx((result.splits[0].f1 + 100) / 2)
    assert result.f1_held_out is None


def test_a_threshold_chosen_on_one_split_is_used_on_all(tmp_path):
    lenient = write(tmp_path / "gsm8k.jsonl", solution([0.9, 0.7], 1), solution([0.8], -1))
    other = write(tmp_path / "math.jsonl", solution([0.7], 0), solution([0.6], -1), solution([0.9], -1))
    benchmark = load_benchmark([lenient, other])
    assert evaluate(benchmark, plain(benchmark)).splits[0].f1 == 0.0
    tuned = evaluate(benchmark, plain(benchmark), tune_on="gsm8k")
    assert (tuned.threshold, tuned.tuned_on) == (pytest.approx(0.75), "gsm8k")
    assert [split.f1 for split in tuned.splits] == [100.0, pytest.approx(200 / 3)]
    assert tuned.f1 == pytest.approx(250 / 3)
    assert tuned.f1_held_out == pytest.approx(200 / 3)
    assert "mean without gsm8k" in tuned.table()


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]), min_size=1, max_size=4), st.integers(-1, 3)
        ),
        min_size=2,
        max_size=8,
    )
)
def test_the_chosen_threshold_is_the_best_of_all(drawn):
    examples = [
        ProcessBenchExample(str(i), "q", tuple("s" * len(s)), min(label, len(s) - 1))
        for i, (s, label) in enumerate(drawn)
    ]
    scores = [tuple(s) for s, _ in drawn]
    if len({example.label == -1 for example in examples}) < 2:
        with pytest.raises(RequestError, match="with an error and without"):
            best_threshold(examples, scores)
        return

    def f1(threshold):
        return evaluate_processbench({"s": examples}, {"s": scores}, threshold).f1

    everywhere = [i / 40 for i in range(-1, 44)]  # a grid that has a point between any two of the scores above
    assert f1(best_threshold(examples, scores)) == pytest.approx(max(map(f1, everywhere)))


def test_a_split_without_errors_has_no_f1(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "a.jsonl", solution([0.9], -1)))
    result = evaluate(benchmark, plain(benchmark))
    assert (result.splits[0].acc_error, result.splits[0].acc_correct, result.f1) == (None, 100.0, None)
    assert " -" in result.table()


def test_all_wrong_is_zero_not_a_division_by_zero(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "a.jsonl", solution([0.1], -1), solution([0.9], 0)))
    assert evaluate(benchmark, plain(benchmark)).f1 == 0.0


def test_a_solution_that_cannot_be_scored_counts_as_missed(tmp_path):
    rows = [solution(["too long"], 0), solution(["too long"], -1), solution(["a"], -1)]
    benchmark = load_benchmark(write(tmp_path / "a.jsonl", *rows))
    split = evaluate(benchmark, Hashes(), threshold=0.0).splits[0]
    assert (split.acc_error, split.acc_correct, split.unscored) == (0.0, 50.0, 2)
    assert "2 solutions could not be scored" in evaluate(benchmark, Hashes()).table()


def test_a_scorer_that_fails_is_not_a_measurement(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "a.jsonl", solution(["a"], 0), solution(["down"], -1)))
    with pytest.raises(BatchError, match="the server is gone"):
        score_benchmark(benchmark, Hashes())


# ---- PRMBench


def test_prmbench_on_real_rows_by_the_fields_definition():
    """PRMScore counted here on its own: precision, recall and F1 of both classes, from the file's fields."""
    rows = [json.loads(line) for line in PRMBENCH.read_text(encoding="utf-8").splitlines()]
    result = evaluate(load_benchmark(PRMBENCH), Hashes())
    by_class = {measured.name: measured for measured in result.classes}
    assert len(by_class) == 9

    def expected(chosen, f1_alone):
        right = [i not in row["error_steps"] for row in chosen for i in range(1, len(row["modified_process"]) + 1)]
        called = [hashed(step) > 0.5 for row in chosen for step in row["modified_process"]]

        def f1(positive):
            hits = sum(r is c is positive for r, c in zip(right, called, strict=True))
            precision = hits / sum(c is positive for c in called)
            recall = hits / sum(r is positive for r in right)
            return 2 * precision * recall / (precision + recall)

        return 100 * (f1(True) if f1_alone else 0.5 * f1(True) + 0.5 * f1(False))

    for name, measured in by_class.items():
        chosen = [row for row in rows if row["classification"] == name]
        assert measured.solutions == len(chosen) == 4
        assert measured.prm_score == pytest.approx(expected(chosen, name == "multi_solutions"), rel=1e-12), name
    assert result.overall.prm_score == pytest.approx(expected(rows, False), rel=1e-12)
    simple = (by_class["redundency"].prm_score + by_class["circular"].prm_score) / 2
    assert result.dimensions["simplicity"] == pytest.approx(simple)
    assert json.loads(json.dumps(result.to_dict()))["prm_score"] == result.overall.prm_score
    assert "simplicity (mean)" in result.table()


def test_prmbench_counts_and_edges(tmp_path):
    rows = [
        prm_row(["0.9", "0.5", "0.9", "0.1"], [2, 3, 9]),  # 0.5 is not above 0.5; there is no step 9
        prm_row(["0.9"], [1], idx="a"),  # the same solution again: counted once
        prm_row(["0.9"], [1], idx="b", kind="new_class"),
    ]
    benchmark = load_benchmark(write(tmp_path / "p.jsonl", *rows))
    result = evaluate(benchmark, plain(benchmark))
    circular, new = result.classes
    assert [circular.true_positive, circular.true_negative, circular.false_positive, circular.false_negative] == [1] * 4
    assert (circular.f1, circular.f1_negative, circular.prm_score) == (50.0, 50.0, 50.0)
    assert (new.name, new.prm_score) == ("new_class", 0.0)
    assert result.dimensions == {"simplicity": 50.0, "soundness": None, "sensitivity": None}


def test_prmbench_leaves_out_what_has_no_scores(tmp_path):
    rows = [prm_row(["a"], [], idx="a"), prm_row(["b"], [], idx="b")]
    result = evaluate(load_benchmark(write(tmp_path / "p.jsonl", *rows)), [None, (0.9,)])
    assert (result.overall.solutions, result.unscored, result.overall.f1) == (1, 1, 100.0)


# ---- best of N

QUESTION = {
    "question": "q",
    "answer": "7",
    "candidates": [
        {"steps": ["0.6"], "answer": "5"},
        {"steps": ["0.5"], "answer": " 7 "},
        {"steps": ["0.4"], "answer": "7"},
        {"steps": ["0.9", "0.55"], "answer": "9"},
        {"steps": ["0.95"], "answer": "7"},
    ],
}
FLAGGED = {
    "question": "r",
    "candidates": [{"steps": ["0.5"], "correct": i == 3, "answer": str(i)} for i in range(6)],
}


def test_best_of_n_by_hand(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "b.jsonl", QUESTION, FLAGGED))
    result = evaluate(benchmark, plain(benchmark))
    shown = [(r.n, r.best_of_n, r.majority, r.weighted_majority, r.oracle) for r in result.rows]
    # First question: 5 leads with one and two candidates (a tie goes to the first); with four, 7 has two votes and
    # 0.9 of weight against 0.6 and 0.55; with five its own candidate scores highest. Second: number 3 is never chosen.
    assert shown == [
        (1, 0.0, 0.0, 0.0, 0.0),
        (2, 0.0, 0.0, 0.0, 50.0),
        (4, 0.0, 50.0, 50.0, 100.0),
        (5, 50.0, 50.0, 50.0, 100.0),
    ]
    assert result.mean_accuracy == pytest.approx(100 * 4 / 11)
    assert result.aggregation == "min"
    # By mean candidate 3 scores 0.725, still below 0.95; with four candidates it wins over 0.6 as well.
    assert evaluate(benchmark, plain(benchmark), aggregate="mean").rows[2].best_of_n == 0.0
    assert evaluate(benchmark, plain(benchmark), aggregate="sum_log").rows[3].weighted_majority is None
    assert "weighted majority" in result.table()
    json.dumps(result.to_dict())


def test_best_of_n_without_answers(tmp_path):
    rows = {"question": "q", "candidates": [{"steps": ["0.5"], "correct": True}, {"steps": ["0.9"], "correct": False}]}
    benchmark = load_benchmark(write(tmp_path / "b.jsonl", rows))
    last = evaluate(benchmark, plain(benchmark)).rows[-1]
    assert (last.best_of_n, last.majority, last.weighted_majority, last.oracle) == (0.0, None, None, 100.0)


def test_an_unscored_candidate_is_never_chosen(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "b.jsonl", QUESTION))
    scores = plain(benchmark)
    scores[4] = RequestError("too long")
    result = evaluate(benchmark, scores)
    assert (result.rows[-1].best_of_n, result.rows[-1].majority, result.unscored) == (0.0, 100.0, 1)
    assert evaluate(benchmark, [None] * 5).rows[-1].best_of_n == 0.0


def test_the_recipes_aggregation_is_the_default(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "b.jsonl", QUESTION))
    assert evaluate(benchmark, [StepScores(s, aggregation="last") for s in plain(benchmark)]).aggregation == "last"
