"""StepScores and Ranking: the arithmetic of scores, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_prm.errors import BatchError, EngineError, RecipeError, RequestError
from vllm_prm.recipes import load_recipe
from vllm_prm.scores import Ranking, StepScores

SHEPHERD = load_recipe("math-shepherd")
VALUE = load_recipe(
    {"name": "v", "step_tag": {"id": 1}, "scoring_tokens": {"good": {"id": 0, "weight": 1.0}}, "activation": "sigmoid"}
)
THREE = load_recipe(
    {
        "name": "three",
        "step_tag": {"id": 1},
        "scoring_tokens": {
            "good": {"id": 5, "weight": 1.0},
            "neutral": {"id": 6, "weight": 0.5},
            "bad": {"id": 7, "weight": 0.0},
        },
        "aggregation": "product",
    }
)
TWO_OF_THREE = replace(THREE, scoring_tokens=(*THREE.scoring_tokens[:2], replace(THREE.scoring_tokens[2], weight=1.0)))


def of(*scores, how="min"):
    return StepScores(scores, aggregation=how)


def test_softmax_of_two_is_the_sigmoid_of_their_difference():
    scores = StepScores.from_logits(np.array([[2.0, 0.5], [-1.0, 3.0]], np.float32), SHEPHERD, 40, 32)
    assert scores.step_scores == pytest.approx((1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(4.0))), rel=1e-14)
    assert scores.logits == ((2.0, 0.5), (-1.0, 3.0))
    assert [sum(row) for row in scores.probabilities] == pytest.approx([1.0, 1.0], rel=1e-15)
    assert scores.labels == ("good", "bad")
    assert (scores.num_prompt_tokens, scores.num_cached_tokens) == (40, 32)


def test_weights_count_and_the_recipes_aggregation_is_the_default():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))  # softmax gives these back
    scores = StepScores.from_logits(logits, THREE)
    assert scores.step_scores == pytest.approx((0.5 + 0.125, 0.25 + 0.25))
    assert scores.aggregate() == pytest.approx(0.625 * 0.5)
    assert scores.aggregate("min") == pytest.approx(0.5)


def test_sigmoid():
    scores = StepScores.from_logits(np.array([[0.0], [-2.0], [2.0]]), VALUE)
    assert scores.step_scores == pytest.approx((0.5, 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))), rel=1e-14)


@given(st.lists(st.tuples(*[st.floats(-(2.0**127), 2.0**127, width=32)] * 3), min_size=1, max_size=8))
def test_any_finite_logits_give_scores_from_0_to_1(rows):
    scores = StepScores.from_logits(np.array(rows, np.float32), TWO_OF_THREE)
    assert len(scores) == len(rows)
    assert all(0 <= score <= 1 for score in scores.step_scores)


@pytest.mark.parametrize("logit", [-1e4, -750.0, 750.0, 1e4])
def test_extreme_values_do_not_overflow(logit):
    with np.errstate(over="raise", invalid="raise"):
        assert StepScores.from_logits(np.array([[logit]]), VALUE).step_scores == (float(logit > 0),)


@pytest.mark.parametrize(
    ("logits", "error", "says"),
    [
        (np.zeros((0, 2)), RequestError, "no step was scored"),
        (np.zeros((3, 3)), EngineError, r"shape \[3, 3\].*expected \[steps, 2\]"),
        (np.zeros(4), EngineError, r"shape \[4\]"),
        (np.array([[0, 1], [np.nan, 1]]), EngineError, "step 1 .*not all finite"),
        (np.array([[np.inf, 1]]), EngineError, "step 0 .*not all finite"),
    ],
)
def test_logits_that_cannot_be_scores(logits, error, says):
    with pytest.raises(error, match=says):
        StepScores.from_logits(logits, SHEPHERD)


def test_first_error_is_the_first_below_the_threshold():
    scores = of(0.9, 0.5, 0.49, 0.1)
    assert scores.first_error() == 2
    assert scores.first_error(0.95) == 0
    assert scores.first_error(0.1) is None


def test_a_recipe_may_count_against_a_step_and_have_a_threshold_of_its_own():
    pure = load_recipe("pure-prm")  # p(good) - p(bad), wrong below 0
    scores = StepScores.from_logits(np.log(np.array([[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])), pure)
    assert scores.step_scores == pytest.approx((0.6, 0.2, -0.4))
    assert (scores.first_error(), scores.first_error(0.5)) == (2, 1)
    assert json.loads(json.dumps(scores.to_dict()))["first_error"] == 2
    with pytest.raises(RequestError, match=r"logarithm of step scores, and -0\.\d+ is below 0"):
        scores.aggregate("sum_log")


def test_a_full_softmax_was_made_where_the_logits_are():
    granite = load_recipe("granite-3.3-prm")
    scores = StepScores.from_logits(np.array([[math.log(0.25)], [0.0], [1e-7], [-800.0]]), granite)
    assert scores.step_scores == pytest.approx((0.25, 1.0, 1.0, 0.0))
    assert max(scores.step_scores) <= 1


def test_to_dict_is_json():
    raw = json.loads(json.dumps(StepScores.from_logits(np.array([[800.0, -800.0]]), SHEPHERD).to_dict()))
    assert raw["step_scores"] == [1.0]
    assert (raw["score"], raw["first_error"], raw["labels"]) == (1.0, None, ["good", "bad"])


def test_ranking_keeps_the_order_of_equals():
    ranking = Ranking.of([of(0.2), of(0.9), of(0.5), of(0.9), of(0.2)])
    assert ranking.order == (1, 3, 2, 0, 4)
    assert ranking.best == ranking.order[0] == 1
    assert ranking.scores == (0.2, 0.9, 0.5, 0.9, 0.2)
    assert json.loads(json.dumps(ranking.to_dict()))["results"][2]["step_scores"] == [0.5]


def test_ranking_by_another_aggregation():
    worse_step_better_mean, even = of(0.3, 1.0), of(0.5, 0.5)
    assert Ranking.of([worse_step_better_mean, even]).best == 1
    assert Ranking.of([worse_step_better_mean, even], "mean").best == 0
    with pytest.raises(RequestError, match="no candidates"):
        Ranking.of([])


def test_they_are_frozen_and_their_repr_is_short():
    scores = of(0.91234567, 0.1)
    assert repr(scores) == "StepScores([0.9123, 0.1000], min=0.1000, first_error=1)"
    assert repr(Ranking.of([scores])) == "Ranking(best=0, order=[0], min=[0.1000])"
    with pytest.raises(AttributeError):
        scores.step_scores = ()


def test_batch_error_keeps_what_was_scored_and_survives_pickling():
    error = BatchError([of(0.5), RequestError("step 2 is empty"), RecipeError("x")])
    assert "2 of 3 items" in str(error)
    assert "item 1 (counting from 0): step 2 is empty" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert again.results[0] == of(0.5)
    assert list(again.errors) == [1, 2]
    assert str(again) == str(error)
