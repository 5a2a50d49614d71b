"""Aggregations and votes against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_prm.aggregate import AGGREGATIONS, aggregate, best_of_n, first_below, majority, weighted_majority
from vllm_prm.errors import RequestError

SCORES = [0.5, 0.25, 0.8]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("min", 0.25), ("product", 0.1), ("mean", 1.55 / 3), ("last", 0.8), ("sum_log", math.log(0.1))],
)
def test_by_hand(aggregation, expected):
    assert aggregate(SCORES, aggregation) == pytest.approx(expected, rel=1e-12)
    assert aggregate(np.array(SCORES), aggregation) == pytest.approx(expected, rel=1e-12)


def test_every_name_is_tested_above():
    assert set(AGGREGATIONS) == {"min", "product", "mean", "last", "sum_log"}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_step(aggregation):
    assert aggregate([1.0], aggregation) == (0.0 if aggregation == "sum_log" else 1.0)


def test_sum_log_of_zero_is_finite_and_lower_than_of_any_float32():
    least_float32 = 1.401298464324817e-45  # the smallest subnormal, IEEE 754
    assert math.isfinite(aggregate([0.0], "sum_log"))
    assert aggregate([0.0], "sum_log") < aggregate([least_float32], "sum_log")


def test_sum_log_still_orders_what_product_cannot():
    long, longer = [0.01] * 200, [0.01] * 201
    assert aggregate(long, "product") == aggregate(longer, "product") == 0.0
    assert aggregate(long, "sum_log") > aggregate(longer, "sum_log")


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20))
def test_they_agree_with_each_other(scores):
    product = aggregate(scores, "product")
    assert product <= aggregate(scores, "min") <= aggregate(scores, "mean") + 1e-12
    assert math.exp(aggregate(scores, "sum_log")) == pytest.approx(product, rel=1e-9)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([], "no step scores"),
        ([0.5, math.nan], "step score 1 is nan"),
        ([math.inf], "step score 0 is inf"),
        ([0.1, None], "step score 1 is None"),
        ("0.5", "no step scores"),
    ],
)
def test_what_is_no_score_is_refused(aggregation, scores, says):
    with pytest.raises(RequestError, match=says):
        aggregate(scores, aggregation)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(RequestError, match=r"'median'.*'min', 'product', 'mean', 'last', 'sum_log'"):
        aggregate(SCORES, "median")


def test_sum_log_of_a_negative_score_is_refused():
    with pytest.raises(RequestError, match=r"-0\.5 is below 0"):
        aggregate([-0.5, 0.5], "sum_log")


def test_the_first_step_below_a_threshold():
    assert first_below(SCORES, 0.5) == 1  # 0.5 itself is not below
    assert first_below(SCORES, 0.51) == 0
    assert first_below(SCORES, 0.25) is None


def test_best_of_n_takes_the_first_of_equals():
    assert best_of_n([0.1, 0.9, 0.9]) == 1
    assert best_of_n([-3.0]) == 0
    with pytest.raises(RequestError, match="no scores"):
        best_of_n([])


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        (["1", "2", "2"], "2"),
        (["1", "2"], "1"),  # a tie: the earlier
        (["1", "2", "2", "1"], "1"),
        (["x  = 1", "7", " x = 1\n"], "x  = 1"),  # equal but for white space; as first written
        (["x=1", "7", "7", "x = 1"], "7"),  # nothing but white space runs is normalised
        ([None, None, "3"], "3"),
        ([None], None),
    ],
)
def test_majority(answers, winner):
    assert majority(answers) == winner


def test_majority_by_key():
    assert majority(["0.5", "2", "1/2"], key=lambda text: {"1/2": 0.5}.get(text) or float(text)) == "0.5"


def test_weighted_majority():
    assert weighted_majority(["1", "2", "2"], [0.9, 0.4, 0.4]) == "1"
    assert weighted_majority(["1", "2", "2"], [0.7, 0.4, 0.4]) == "2"
    assert weighted_majority([None, "2"], [0.7, 0.0]) == "2"


def test_ten_votes_of_a_tenth_tie_with_one():
    """In float addition they make 0.9999999999999999, and the order would decide."""
    assert weighted_majority(["a"] * 10 + ["b"], [0.1] * 10 + [1.0]) == "a"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: majority([]), "no answers"),
        (lambda: majority(["1", 2]), r"answer 1 is a int \(2\)"),
        (lambda: weighted_majority(["1"], [0.1, 0.2]), "1 answers and 2 scores"),
        (lambda: weighted_majority(["1", "2"], [0.1, -0.2]), "0 or more, found -0.2"),
        (lambda: weighted_majority(["1"], [math.nan]), "score 0 is nan"),
    ],
)
def test_votes_that_cannot_be_counted(call, says):
    with pytest.raises(RequestError, match=says):
        call()
