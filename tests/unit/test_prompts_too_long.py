"""Texts that cannot fit are refused without being tokenized, and those that may are not."""

from __future__ import annotations

import re

import pytest
from conftest import TINY_PRM
from transformers import AutoTokenizer

from vllm_prm.errors import RequestError
from vllm_prm.prompts import Prompt, scorings
from vllm_prm.prompts.drafts import SegmentsDraft, _step_at
from vllm_prm.prompts.encoding import too_long
from vllm_prm.recipes import bind, find_recipe

LONGEST = 512


@pytest.fixture(scope="module")
def recipe():
    return bind(find_recipe(TINY_PRM), AutoTokenizer.from_pretrained(TINY_PRM))


@pytest.fixture
def tokenized(recipe, monkeypatch):
    """The lengths of the texts that the tokenizer was handed."""
    lengths = []
    call = type(recipe.tokenizer).__call__

    def counting(self, texts, *args, **kwargs):
        lengths.extend(map(len, texts))
        return call(self, texts, *args, **kwargs)

    counting.__module__ = call.__module__  # a class of somebody else's is asked otherwise (`is_fast`)
    monkeypatch.setattr(type(recipe.tokenizer), "__call__", counting)
    return lengths


@pytest.mark.parametrize(
    ("question", "steps", "late"),
    [
        ("q", ["1 + 1 = 2", "5 + 5 = 10 " * 100_000, "1 + 1 = 2"], "step 2 of 3"),
        ("q " * 1_000_000, ["1 + 1 = 2"], "step 1 of 1"),
        ("q", ["1 + 1 = 2"] * 200_000, r"step 1\d\d of 200000"),  # 512 times the longest piece
    ],
)
def test_what_cannot_fit_is_not_tokenized_and_others_are_planned(recipe, tokenized, question, steps, late):
    long, good = scorings([(question, steps), ("Mia has 1 egg.", ["1 + 1 = 2"])], recipe, LONGEST)
    assert isinstance(long, RequestError)
    message = (
        f"characters, more than the 512 tokens that the model takes can be: {late} no longer fits, or one before it; "
    )
    assert re.search(message, str(long)), str(long)
    assert isinstance(good.prompts[0], Prompt)
    assert max(tokenized) < 1_000


def test_what_may_fit_is_tokenized(recipe, tokenized):
    (error,) = scorings([("q", ["5 + 5 = 10 " * 9_000])], recipe, LONGEST)  # 99,000 characters
    assert "the prompt has 4" in str(error)
    assert "tokens and the model takes 512: step 1 of 1 no longer fits" in str(error)
    assert max(tokenized) > 99_000
    assert too_long(10**7, recipe.tokenizer, None) is None  # a client that does not know how long prompts may be
    assert too_long(10**7, recipe.tokenizer, 10**7) is None


def test_the_step_of_segments():
    draft = SegmentsDraft("q" * 10, ("a" * 10, "b" * 10))
    assert [_step_at(draft, 2, at) for at in (0, 15, 20, 29, 99)] == [
        "step 1 of 2", "step 1 of 2", "step 2 of 2", "step 2 of 2", "step 2 of 2"
    ]  # fmt: skip
