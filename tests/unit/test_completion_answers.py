"""The likeliest tokens that a server gives, as a step's logits: exact, within a harmless bound, or an error."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import TINY_PRM
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vllm_prm import EngineError, load_recipe
from vllm_prm.client.completions.answers import names_of, scoring_row
from vllm_prm.recipes import bind
from vllm_prm.scores import weighted_scores

RECIPE = bind(load_recipe(TINY_PRM + "/prm.json"), AutoTokenizer.from_pretrained(TINY_PRM))
GOOD, BAD = names_of(RECIPE, by_id=True)


def score(row):
    return weighted_scores(row[None].astype(np.float64), RECIPE.recipe)[0]


def test_tokens_are_named_by_their_ids_or_by_their_texts():
    assert [GOOD, BAD] == ["token_id:332", "token_id:333"]
    assert names_of(RECIPE, by_id=False) == ["+", "-"]


def test_both_there():
    row = scoring_row({"token_id:7": -0.1, GOOD: -3.0, BAD: -4.0}, [GOOD, BAD], RECIPE, asked_by_id=False)
    assert row.tolist() == [-3, -4]


@pytest.mark.parametrize(("present", "value", "expected"), [(GOOD, -0.1, 1.0), (BAD, -0.1, 0.0)])
def test_one_missing_that_cannot_matter(present, value, expected):
    row = scoring_row({present: value, "token_id:7": -15.0}, [GOOD, BAD], RECIPE, asked_by_id=False)
    assert score(row) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("present", [GOOD, BAD])
def test_one_missing_that_could_matter(present):
    missing = BAD if present == GOOD else GOOD
    with pytest.raises(EngineError, match=f"{missing}.*not among the 2 likeliest.*-3.00 at most"):
        scoring_row({present: -1.0, "token_id:7": -3.0}, [GOOD, BAD], RECIPE, asked_by_id=False)


def test_both_missing():
    with pytest.raises(EngineError, match="not among the 1 likeliest"):
        scoring_row({"token_id:7": -30.0}, [GOOD, BAD], RECIPE, asked_by_id=False)


def test_over_the_whole_vocabulary_a_token_far_down_has_no_share():
    whole = bind(load_recipe({**RECIPE.recipe.to_dict(), "activation": "full_softmax"}), RECIPE.tokenizer)
    row = scoring_row({"token_id:7": -30.0}, [GOOD, BAD], whole, asked_by_id=False)
    assert weighted_scores(row[None], whole.recipe)[0] == pytest.approx(0, abs=1e-5)
    with pytest.raises(EngineError, match="-3.00 at most"):
        scoring_row({"token_id:7": -3.0}, [GOOD, BAD], whole, asked_by_id=False)
    row = scoring_row({GOOD: np.log(0.25), BAD: np.log(0.5)}, [GOOD, BAD], whole, asked_by_id=True)
    assert weighted_scores(row[None], whole.recipe)[0] == pytest.approx(0.25)
    with pytest.raises(EngineError, match="gave 8.000 as the logarithm of a probability, so these are logits"):
        scoring_row({GOOD: 8.0, BAD: 7.0}, [GOOD, BAD], whole, asked_by_id=True)


def test_a_server_that_was_asked_for_just_these_and_gives_others():
    with pytest.raises(EngineError, match="gave no log-probability for .*only for"):
        scoring_row({GOOD: -0.1, "token_id:7": -20.0}, [GOOD, BAD], RECIPE, asked_by_id=True)


@given(st.lists(st.floats(-30, 0), min_size=4, max_size=4), st.integers(1, 4))
def test_a_score_from_the_likeliest_is_the_score_or_an_error(logprobs, count):
    """Whatever is left out of a distribution, the score is that of all of it, within the limit, or there is none."""
    everything = dict(zip([GOOD, BAD, "token_id:1", "token_id:2"], logprobs, strict=True))
    likeliest = dict(sorted(everything.items(), key=lambda item: -item[1])[:count])
    try:
        row = scoring_row(likeliest, [GOOD, BAD], RECIPE, asked_by_id=False)
    except EngineError:
        assert not {GOOD, BAD} <= set(likeliest)
        return
    assert score(row) == pytest.approx(score(np.array([everything[GOOD], everything[BAD]])), abs=1e-5)
