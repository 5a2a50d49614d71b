"""Recipes that ask more than once: PathFinder's two passes, GenPRM's dialogue, against the sources' own prompts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import vocabularies
from prompt_oracles import genprm, pathfinder

from vllm_prm import load_recipe
from vllm_prm.errors import EngineError
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind

QUESTION = "What is 2 + 3 * 4?"
STEPS = ["3 * 4 = 12", "<extra> 2 + 12 = 14 {tag}", "The answer is: $\\boxed{14}$ <+>"]
PLAIN = ["3 * 4 = 12", "2 + 12 = 14", "The answer is: $\\boxed{14}$"]


def same(prompt, reads):
    assert len(prompt.positions) == len(reads)
    for position, read in zip(prompt.positions, reads, strict=True):
        assert prompt.token_ids[: position + 1] == read.seen


def begun(name, steps):
    """A solution's Scoring, and the tokenizer that its prompts are made with."""
    tokenizer = vocabularies.qwen25()
    return Scoring(QUESTION, steps, bind(load_recipe(name), tokenizer)), tokenizer


def step_logits(scoring):
    assert scoring.prompts == []
    return np.array(scoring.result().logits, np.float32)


@pytest.mark.parametrize("steps", [PLAIN, PLAIN[:1], ["+", "<+>", "- <->"]])
def test_pathfinder_asks_for_errors_first_and_then_for_correctness(steps):
    scoring, tokenizer = begun("pathfinder", steps)
    first = scoring.prompts
    asked = " Math reasoning: <extra>, Consistency: <extra>"
    for index, prompt in enumerate(first):
        same(prompt, pathfinder(QUESTION, steps, tokenizer, asked, index))
    scoring.take([np.array([[2.0, 1.0], [3.0, -1.0]], np.float32) for _ in steps])
    second = scoring.prompts
    asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
    for index, prompt in enumerate(second):
        same(prompt, pathfinder(QUESTION, steps, tokenizer, asked, index))
    rows = [np.array([[index, 0.5]], np.float32) for index in range(len(steps))]
    scoring.take(rows)
    assert np.array_equal(step_logits(scoring), np.concatenate(rows))
    assert scoring.num_prompt_tokens == sum(len(prompt.token_ids) for prompt in [*first, *second])


def test_pathfinder_does_not_ask_about_a_step_with_an_error_again():
    scoring, tokenizer = begun("pathfinder", PLAIN)
    math_error = np.array([[0.0, 4.0], [1.0, 0.0]], np.float32)
    both = np.array([[0.0, 1.0], [0.0, 5.0]], np.float32)
    fine = np.array([[4.0, 0.0], [4.0, 0.0]], np.float32)
    scoring.take([math_error, fine, both])
    (second,) = scoring.prompts
    asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
    same(second, pathfinder(QUESTION, PLAIN, tokenizer, asked, 1))
    scoring.take([np.array([[1.0, 2.0]], np.float32)])
    # The worst answer of the first pass, so that the step's score is below one half.
    assert step_logits(scoring).tolist() == [[0.0, 4.0], [1.0, 2.0], [0.0, 5.0]]
    assert max(scoring.result().step_scores) < 0.5


def test_pathfinder_ends_after_one_pass_if_every_step_is_wrong():
    scoring, _ = begun("pathfinder", PLAIN)
    scoring.take([np.array([[0.0, 4.0], [1.0, 0.0]], np.float32)] * 3)
    assert step_logits(scoring).tolist() == [[0.0, 4.0]] * 3


def test_pathfinder_does_not_read_a_mask_that_a_step_holds():
    scoring, tokenizer = begun("pathfinder", STEPS)
    prompts = scoring.prompts
    mask = tokenizer.get_vocab()["<extra>"]
    assert [prompt.token_ids.count(mask) for prompt in prompts] == [2, 3, 3]
    assert [len(prompt.positions) for prompt in prompts] == [2, 2, 2]
    for prompt in prompts:
        ends = [tokenizer.decode(prompt.token_ids[: position + 1]) for position in prompt.positions]
        assert ends[0].endswith(" Math reasoning: ")
        assert ends[1].endswith(" Math reasoning: <extra>, Consistency: ")


@pytest.mark.parametrize("steps", [PLAIN, STEPS, ["{", "boxed{", "a\n\nb"]])
def test_genprm_writes_each_judgement_before_it_asks_for_the_next(steps):
    scoring, tokenizer = begun("genprm", steps)
    answers, rows = [], []
    for index, row in enumerate([[2.0, 1.0], [0.5, 3.0], [1.0, 0.0]]):
        (prompt,) = scoring.prompts
        same(prompt, genprm(QUESTION, steps[: index + 1], tokenizer, answers))
        assert prompt.positions == (len(prompt.token_ids) - 1,)
        answers.append("Yes" if row[0] > row[1] else "No")
        rows.append(row)
        scoring.take([np.array([row], np.float32)])
    assert step_logits(scoring).tolist() == rows


def test_with_three_labels_a_step_is_wrong_where_its_score_is_below_one_half():
    """Not where the likeliest label is a bad one: two good labels may outweigh it."""
    tokens = {label: {"piece": piece, "weight": weight} for label, piece, weight in LABELS}
    recipe = load_recipe({**json.loads(load_recipe("pathfinder").to_json()), "scoring_tokens": tokens})
    scoring = Scoring(QUESTION, PLAIN, bind(recipe, vocabularies.qwen25()))
    bad_is_likeliest = np.array([[1.0, 1.0, 1.2]] * 2, np.float32)
    bad = np.array([[1.0, 1.0, 5.0]] * 2, np.float32)
    scoring.take([bad_is_likeliest, bad, bad_is_likeliest])
    assert len(scoring.prompts) == 2, "only the second step is decided"
    scoring.take([np.array([[2.0, 0.0, 0.0]], np.float32)] * 2)
    assert [score < 0.5 for score in scoring.result().step_scores] == [False, True, False]


LABELS = (("good", "<+>", 1.0), ("neutral", "<extra>", 1.0), ("bad", "<->", 0.0))


def test_logits_of_the_wrong_shape_are_the_engines_fault():
    scoring, _ = begun("pathfinder", PLAIN)
    with pytest.raises(EngineError, match="the engine gave 2 logits; expected 2 rows of 2"):
        scoring.take([np.zeros((1, 2), np.float32)] * 3)


def test_a_result_before_its_time_is_the_callers_mistake():
    scoring, _ = begun("pathfinder", PLAIN)
    with pytest.raises(ValueError, match="3 prompts of this solution still wait for their logits"):
        scoring.result()
