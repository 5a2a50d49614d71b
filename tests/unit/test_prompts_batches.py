"""Solutions planned as a batch, and positions against the rule that they once followed: a tokenization per step."""

from __future__ import annotations

import random

import numpy as np
import pytest
import vocabularies
from checkpoints import real_tokenizer
from conftest import TINY_PRM
from tokenizer_families import texts_of
from transformers import AutoTokenizer

from vllm_prm import RecipeError, RequestError, load_recipe
from vllm_prm.errors import EngineError, PRMError
from vllm_prm.prompts import Scoring, scorings, take_all
from vllm_prm.prompts.drafts import AnswersDraft
from vllm_prm.prompts.layouts import Solution
from vllm_prm.prompts.rounds import rounds_of
from vllm_prm.prompts.tags import _not_a_token, _occurrences, _times_written
from vllm_prm.recipes import bind, recipe_names

MISTRAL, LLAMA, QWEN = real_tokenizer(), vocabularies.llama3(), vocabularies.qwen25()
TINY = AutoTokenizer.from_pretrained(TINY_PRM)


def own(step_tag, good="+", **prompt):
    tokens = {"good": {"piece": good, "weight": 1.0}, "bad": {"piece": good.replace("+", "-"), "weight": 0.0}}
    return {"name": "own", "step_tag": step_tag, "scoring_tokens": tokens, **({"prompt": prompt} if prompt else {})}


def recipes():
    """Every recipe with each tokenizer that has its tokens, and tags that steps hold too."""
    for name in recipe_names():
        for tokenizer in (MISTRAL, LLAMA, QWEN):
            try:
                yield bind(load_recipe(name), tokenizer)
            except RecipeError:
                continue
    chat = {"kind": "chat", "question": "{question}", "separator": "\n"}
    turns = {"kind": "turns", "question": "{question} ", "tag": "+"}
    of_bytes = [own(tag) for tag in ("ĊĊ", "Ċ", "+")]
    of_bytes += [own("Ġ+", tag=" +"), own("+", **turns), own("+", **chat), own("ĊĊ", "Ġ+", **chat)]
    of_bytes += [own("ĊĊ", tag="\n\n", separator=""), own("ĊĊ", **{**chat, "tag": "\n\n", "separator": "Next "})]
    for tokenizer in (LLAMA, QWEN):
        for recipe in of_bytes:
            yield bind(load_recipe(recipe), tokenizer)
    for recipe in (own("<0x0A>", "▁+", tag="\n"), own("▁+", "▁+", tag=" +"), own("▁ки", "▁+"), own("▁step", "▁+")):
        yield bind(load_recipe(recipe), MISTRAL)
    yield bind(load_recipe(TINY_PRM), TINY)


RECIPES = {f"{number} {recipe.recipe.name}": recipe for number, recipe in enumerate(recipes())}


def by_the_old_rule(recipe, draft, num_steps):
    """Ids and tag positions of a draft that is one text. Raises RequestError as `last_tokens_of_tags` once did."""
    if isinstance(draft, AnswersDraft):
        beginnings = [recipe.encode_part(draft.text[:start]) for start in draft.answer_starts]
        token_ids = recipe.encode_part(draft.text)
        assert all(token_ids[: len(beginning)] == beginning for beginning in beginnings)
        return token_ids, [len(beginning) - 1 for beginning in beginnings]
    encode = recipe.encode_part if draft.is_bare else recipe.encode_text
    steps = range(len(draft.tag_ends)) if draft.step is None else [draft.step] * len(draft.tag_ends)
    token_ids = encode(draft.text)
    occurrences = _occurrences(recipe.step_tags, token_ids)
    if len(occurrences) == len(draft.tag_ends) == _times_written(recipe, draft.text):
        return token_ids, occurrences
    positions = []
    for end, step in zip(draft.tag_ends, steps, strict=True):
        beginning = token_ids if end == len(draft.text) else encode(draft.text[:end])
        is_tag = len(beginning) - 1 in _occurrences(recipe.step_tags, beginning)
        if token_ids[: len(beginning)] != beginning or not is_tag:
            raise RequestError(_not_a_token(recipe, token_ids, beginning, f"step {step + 1} of {num_steps}"))
        positions.append(len(beginning) - 1)
    return token_ids, positions


def expected(recipe, question, steps):
    """What the first prompts of a solution are by the old rule, or its refusal."""
    try:
        drafts = rounds_of(Solution.of(question, steps, recipe)).drafts()
        return [by_the_old_rule(recipe, draft, len(steps)) for draft in drafts]
    except PRMError as error:
        return str(error)


def outcome(scoring, recipe):
    if isinstance(scoring, Exception):
        return str(scoring)
    offset = recipe.recipe.offset
    return [(list(prompt.token_ids), [at - offset for at in prompt.positions]) for prompt in scoring.prompts]


def random_solutions(recipe, count):
    rng = random.Random(0)
    texts = texts_of(recipe.tokenizer, 0, longest=6)
    tags = [recipe.tag, recipe.tag.strip() or recipe.tag, recipe.separator, "\n\n", " +"]

    def text():
        made = next(texts)
        return made + rng.choice(tags) + next(texts) if rng.random() < 0.3 else made

    solutions = [(text(), [text() for _ in range(rng.randint(1, 5))]) for _ in range(count)]
    return [(question, [step if step.strip() else "a" for step in steps]) for question, steps in solutions]


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_is_planned_as_one_tokenization_for_each_step_would(name):
    recipe = RECIPES[name]
    solutions = random_solutions(recipe, 60)
    planned = scorings(solutions, recipe)
    if recipe.prompt_format.kind != "segments":
        for scoring, (question, steps) in zip(planned, solutions, strict=True):
            assert outcome(scoring, recipe) == expected(recipe, question, steps), (question, steps)
    for scoring, (question, steps) in zip(planned, solutions, strict=True):
        try:
            alone = Scoring(question, steps, recipe)
        except PRMError as error:
            alone = error
        assert outcome(scoring, recipe) == outcome(alone, recipe)


def test_these_solutions_are_planned_and_refused_in_large_numbers():
    planned = [scorings(random_solutions(recipe, 20), recipe) for recipe in RECIPES.values()]
    refusals = [str(error) for its in planned for error in its if isinstance(error, RequestError)]
    assert sum(isinstance(scoring, Scoring) for its in planned for scoring in its) > 400
    assert sum("is not the step tag" in refusal for refusal in refusals) > 20


def test_an_error_stays_with_its_solution():
    recipe = bind(load_recipe("math-shepherd"), MISTRAL)
    steps = ["one", "two"]
    fine, empty, merged, no_text, long = scorings(
        [("q", steps), ("q", []), ("q", ["b<s>"]), ("q", ["a", 3]), ("q", ["many words"] * 9)], recipe, 30
    )
    assert fine.prompts == Scoring("q", steps, recipe).prompts
    assert "there are no steps" in str(empty)
    assert "after step 1 of 1 is not the step tag" in str(merged)
    assert "step 2 of 2 is the number 3" in str(no_text)
    assert "of 9 no longer fits" in str(long)
    assert scorings([], recipe) == []


@pytest.mark.parametrize("name", ["pathfinder", "genprm"])
def test_the_next_rounds_of_many_solutions_are_those_of_each(name):
    recipe = bind(load_recipe(name), QWEN)
    solutions = [(f"question {n}", [f"step {k}\n+ {n}" for k in range(n % 3 + 1)]) for n in range(6)]
    together, alone = scorings(solutions, recipe), [Scoring(*solution, recipe) for solution in solutions]
    rng = np.random.default_rng(0)
    for _ in range(4):
        logits = [
            [rng.normal(size=(len(prompt.positions), 2)).astype(np.float32) for prompt in scoring.prompts]
            for scoring in alone
        ]
        waiting = [n for n, scoring in enumerate(alone) if scoring.prompts]
        assert take_all([(together[n], logits[n], n) for n in waiting]) == [None] * len(waiting)
        for n in waiting:
            alone[n].take(logits[n], n)
        assert [scoring.prompts for scoring in together] == [scoring.prompts for scoring in alone]
    assert [scoring.result() for scoring in together] == [scoring.result() for scoring in alone]


def test_logits_of_the_wrong_shape_fail_their_solution_only():
    recipe = bind(load_recipe("math-shepherd"), MISTRAL)
    first, second = scorings([("q", ["a"]), ("q", ["a", "b"])], recipe)
    errors = take_all([(first, [np.zeros((2, 2), np.float32)], 0), (second, [np.zeros((2, 2), np.float32)], 0)])
    assert isinstance(errors[0], EngineError)
    assert errors[1] is None
    assert len(second.result().step_scores) == 2
