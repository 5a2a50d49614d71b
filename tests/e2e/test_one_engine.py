"""One engine in this process that generates text and scores steps, against the scores of a pooling engine."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from conftest import TINY_PRM, running
from tiny_server import SHARES, SOLUTIONS, shares_of_solutions

from vllm_prm import PRM, EngineError, RecipeError, RequestError, UnsupportedError, load_recipe

BLOCK, LONGEST = 32, 512  # the smallest block of the CPU
OPTIONS = {"max_model_len": LONGEST, "block_size": BLOCK, "enable_chunked_prefill": True, "max_num_batched_tokens": 256}
TEXT = "Mia has 12 apples. Step 1: 12"
CHANGED = {"activation": "sigmoid", "scoring_tokens": {"good": {"piece": "▁+", "id": 332, "weight": 1.0}}}


@pytest.fixture(scope="module")
def pooled():
    """What a pooling engine says of SOLUTIONS."""
    recipe = load_recipe(TINY_PRM + "/prm.json")
    with running(TINY_PRM, **OPTIONS, hf_overrides={"prm": recipe.to_json()}) as llm, PRM.from_llm(llm) as prm:
        yield [scores.step_scores for scores in prm.score_batch(SOLUTIONS, progress=False)]
    assert prm.recipe == recipe


@pytest.fixture(scope="module")
def llm(pooled):
    """An engine that knows nothing of PRMs."""
    with running(TINY_PRM, **OPTIONS, runner="generate", convert="auto") as llm:
        yield llm


@pytest.fixture
def prm(llm):
    llm.reset_prefix_cache()
    return PRM.from_llm(llm)


@contextmanager
def reads(llm):
    """The token ids of all prompts that the engine is asked to continue."""
    generate, prompts = llm.generate, []

    def listed(batch, *args, **options):
        prompts.extend(prompt["prompt_token_ids"] for prompt in batch)
        outputs = generate(batch, *args, **options)
        computed.append(sum(len(output.prompt_token_ids) - output.num_cached_tokens for output in outputs))
        return outputs

    computed = []
    prompts_and_computed = prompts, computed
    with patch.object(llm, "generate", listed):
        yield prompts_and_computed


def test_the_scores_of_a_pooling_engine(prm, pooled):
    for scores, expected in zip(prm.score_batch(SOLUTIONS, progress=False), pooled, strict=True):
        assert list(scores.step_scores) == pytest.approx(expected, abs=1e-5)


def test_probabilities_over_the_whole_vocabulary(llm):
    """Which is what such an engine gives: they are taken as they are."""
    recipe = load_recipe(SHARES)
    for (question, steps), expected in zip(SOLUTIONS, shares_of_solutions(3), strict=False):
        found = PRM.from_llm(llm, recipe).score(question, steps).step_scores
        assert list(found) == pytest.approx(expected, abs=1e-5)


def test_the_prefix_cache_makes_steps_cheap(prm):
    with reads(prm.llm) as (prompts, computed):
        prm.score_batch(SOLUTIONS, progress=False)
    prefixes = {tuple(prompt[:length]) for prompt in prompts for length in range(1, len(prompt) + 1)}
    assert len(prompts) > 100
    assert sum(computed) <= 1.2 * len(prefixes) + BLOCK * len(prompts)


def test_a_step_is_read_once(prm):
    question, steps = SOLUTIONS[0]
    for count in range(1, len(steps) + 1):
        with reads(prm.llm) as (prompts, _):
            scores = prm.score_batch([(question, steps[:count])] * 3, progress=False)
        assert len(prompts) == 1
        assert {len(result) for result in scores} == {count}
    with reads(prm.llm) as (prompts, _):
        again = prm.score(question, steps)
    assert prompts == []
    assert again.num_cached_tokens > 0.9 * again.num_prompt_tokens


def test_another_model_is_read_anew(prm):
    question, steps = SOLUTIONS[1]
    before = prm.score(question, steps)

    def turn(model):
        model.model.norm.weight.data.neg_()  # not a matrix, of which a CPU's kernels keep copies

    prm.llm.apply_model(turn)
    try:
        assert np.abs(np.subtract(prm.score(question, steps).step_scores, before.step_scores)).max() > 0.01
    finally:
        prm.llm.apply_model(turn)
    assert prm.score(question, steps).step_scores == pytest.approx(before.step_scores, abs=1e-5)


def test_generation_beside_it_is_the_same(prm):
    from vllm import SamplingParams

    greedy = SamplingParams(temperature=0, max_tokens=24)
    (alone,) = prm.llm.generate([TEXT], greedy, use_tqdm=False)
    prm.score_batch(SOLUTIONS, progress=False)
    (beside,) = prm.llm.generate([TEXT], greedy, use_tqdm=False)
    assert beside.outputs[0].token_ids == alone.outputs[0].token_ids


def test_a_bad_solution_costs_only_itself(prm):
    question, steps = SOLUTIONS[0]
    items = [(question, steps), (question, ["x " * LONGEST]), (question, [""])]
    good, too_long, empty = prm.score_batch(items, on_error="return", progress=False)
    assert len(good) == len(steps)
    assert isinstance(too_long, RequestError)
    assert f"the model takes {LONGEST - 1}" in str(too_long)
    assert isinstance(empty, RequestError)


def test_the_progress_bar_counts_reads(prm, capsys):
    prm.score_batch(SOLUTIONS[:5])
    shown = capsys.readouterr().err
    num_steps = sum(len(steps) for _, steps in SOLUTIONS[:5])
    assert f"{num_steps}/{num_steps}" in shown


def test_what_it_cannot_score_is_refused(llm):
    recipe = load_recipe(TINY_PRM + "/prm.json").to_dict()
    with pytest.raises(UnsupportedError, match="--logprobs-mode raw_logits"):
        PRM.from_llm(llm, load_recipe({**recipe, **CHANGED}))
    with pytest.raises(RecipeError, match="math-shepherd"):
        PRM.from_llm(llm, "math-shepherd")


def test_closing_leaves_the_engine_running(llm):
    prm = PRM.from_llm(llm)
    prm.close()
    with pytest.raises(EngineError, match="closed"):
        prm.score(*SOLUTIONS[0])
    with PRM.from_llm(llm) as another:
        assert len(another.score(*SOLUTIONS[0])) == len(SOLUTIONS[0][1])
