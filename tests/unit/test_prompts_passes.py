"""Recipes that ask more than once: PathFinder's two passes, GenPRM's dialogue, against the sources' own prompts."""

from __future__ import annotations

import numpy as np
import pytest
import vocabularies
from prompt_oracles import genprm, pathfinder

from vllm_prm import load_recipe
from vllm_prm.prompts import score_plan

QUESTION = "What is 2 + 3 * 4?"
STEPS = ["3 * 4 = 12", "<extra> 2 + 12 = 14 {tag}", "The answer is: $\\boxed{14}$ <+>"]
PLAIN = ["3 * 4 = 12", "2 + 12 = 14", "The answer is: $\\boxed{14}$"]


def same(prompt, reads):
    assert len(prompt.positions) == len(reads)
    for position, read in zip(prompt.positions, reads, strict=True):
        assert prompt.token_ids[: position + 1] == read.seen


def finish(plan, logits):
    with pytest.raises(StopIteration) as stop:
        plan.send(logits)
    return stop.value.value


@pytest.mark.parametrize("steps", [PLAIN, PLAIN[:1], ["+", "<+>", "- <->"]])
def test_pathfinder_asks_for_errors_first_and_then_for_correctness(steps):
    tokenizer, recipe = vocabularies.qwen25(), load_recipe("pathfinder")
    plan = score_plan(QUESTION, steps, recipe, tokenizer)
    first = next(plan)
    asked = " Math reasoning: <extra>, Consistency: <extra>"
    for index, prompt in enumerate(first):
        same(prompt, pathfinder(QUESTION, steps, tokenizer, asked, index))
    second = plan.send([np.array([[2.0, 1.0], [3.0, -1.0]], np.float32) for _ in steps])
    asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
    for index, prompt in enumerate(second):
        same(prompt, pathfinder(QUESTION, steps, tokenizer, asked, index))
    rows = [np.array([[index, 0.5]], np.float32) for index in range(len(steps))]
    assert np.array_equal(finish(plan, rows), np.concatenate(rows))


def test_pathfinder_does_not_ask_about_a_step_with_an_error_again():
    tokenizer, recipe = vocabularies.qwen25(), load_recipe("pathfinder")
    plan = score_plan(QUESTION, PLAIN, recipe, tokenizer)
    next(plan)
    math_error = np.array([[0.0, 4.0], [1.0, 0.0]], np.float32)
    both = np.array([[0.0, 1.0], [0.0, 5.0]], np.float32)
    fine = np.array([[4.0, 0.0], [4.0, 0.0]], np.float32)
    (second,) = plan.send([math_error, fine, both])
    asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
    same(second, pathfinder(QUESTION, PLAIN, tokenizer, asked, 1))
    rows = finish(plan, [np.array([[1.0, 2.0]], np.float32)])
    # The worst answer of the first pass, so that the step's score is below one half.
    assert rows.tolist() == [[0.0, 4.0], [1.0, 2.0], [0.0, 5.0]]


def test_pathfinder_ends_after_one_pass_if_every_step_is_wrong():
    plan = score_plan(QUESTION, PLAIN, load_recipe("pathfinder"), vocabularies.qwen25())
    next(plan)
    rows = finish(plan, [np.array([[0.0, 4.0], [1.0, 0.0]], np.float32)] * 3)
    assert rows.tolist() == [[0.0, 4.0]] * 3


def test_pathfinder_does_not_read_a_mask_that_a_step_holds():
    tokenizer, recipe = vocabularies.qwen25(), load_recipe("pathfinder")
    prompts = next(score_plan(QUESTION, STEPS, recipe, tokenizer))
    mask = tokenizer.get_vocab()["<extra>"]
    assert [prompt.token_ids.count(mask) for prompt in prompts] == [2, 3, 3]
    assert [len(prompt.positions) for prompt in prompts] == [2, 2, 2]
    for prompt in prompts:
        ends = [tokenizer.decode(prompt.token_ids[: position + 1]) for position in prompt.positions]
        assert ends[0].endswith(" Math reasoning: ")
        assert ends[1].endswith(" Math reasoning: <extra>, Consistency: ")


@pytest.mark.parametrize("steps", [PLAIN, STEPS, ["{", "boxed{", "a\n\nb"]])
def test_genprm_writes_each_judgement_before_it_asks_for_the_next(steps):
    tokenizer, recipe = vocabularies.qwen25(), load_recipe("genprm")
    plan = score_plan(QUESTION, steps, recipe, tokenizer)
    answers, rows = [], []
    (prompt,) = next(plan)
    for index, row in enumerate([[2.0, 1.0], [0.5, 3.0], [1.0, 0.0]]):
        same(prompt, genprm(QUESTION, steps[: index + 1], tokenizer, answers))
        assert prompt.positions == (len(prompt.token_ids) - 1,)
        answers.append("Yes" if row[0] > row[1] else "No")
        rows.append(row)
        sent = [np.array([row], np.float32)]
        if index < 2:
            (prompt,) = plan.send(sent)
    assert finish(plan, sent).tolist() == rows


def test_answers_of_the_wrong_shape_are_the_drivers_mistake():
    plan = score_plan(QUESTION, PLAIN, load_recipe("pathfinder"), vocabularies.qwen25())
    next(plan)
    with pytest.raises(ValueError, match=r"sent rows \[1, 1, 1\] for prompts that have \[2, 2, 2\] positions"):
        plan.send([np.zeros((1, 2), np.float32)] * 3)
