"""PRM: the engine in this process, asked as the README does."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import patch

import pytest
from conftest import TINY_PRM
from vllm import outputs

from vllm_prm import PRM, BatchError, EngineError, PRMError, RecipeError, RequestError

QUESTION = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
RIGHT, WRONG = ["12 + 5 = 17", "17 - 9 = 8"], ["12 + 5 = 17", "17 - 9 = 7"]


@pytest.fixture(scope="module")
def prm():
    with PRM(TINY_PRM, dtype="float32", enforce_eager=True, max_model_len=512, block_size=32) as prm:
        yield prm


def test_step_scores(prm):
    right, wrong = prm.score(QUESTION, RIGHT), prm.score(QUESTION, WRONG)
    assert (right.first_error(), wrong.first_error()) == (None, 1)
    assert right.aggregate() == min(right.step_scores) > 0.9
    assert right.labels == ("good", "bad")
    assert [p[0] for p in right.probabilities] == pytest.approx(right.step_scores, abs=1e-12)


def test_the_same_numbers_as_the_embedding(prm):
    text = f"{QUESTION} Step 1: 12 + 5 = 17 ки\nStep 2: 17 - 9 = 7 ки"
    (output,) = prm.llm.embed([text], use_tqdm=False)
    # One softmax is torch's in float32, the other numpy's in float64.
    assert list(prm.score(QUESTION, WRONG).step_scores) == pytest.approx(output.outputs.embedding, abs=1e-6)


def test_a_prefix_that_is_known_is_not_computed_again(prm):
    prm.llm.reset_prefix_cache()
    first, again = prm.score(QUESTION, RIGHT), prm.score(QUESTION, RIGHT)
    assert (first.num_cached_tokens, again.num_cached_tokens) == (0, 32)  # whole blocks only
    assert first.num_prompt_tokens == again.num_prompt_tokens > 32
    assert first.step_scores == pytest.approx(again.step_scores, abs=1e-5)


def test_rank(prm):
    ranking = prm.rank(QUESTION, [WRONG, RIGHT, WRONG])
    assert ranking.best == 1
    assert ranking.order == (1, 0, 2)


def test_a_bad_solution_costs_only_itself(prm):
    items = [(QUESTION, RIGHT), (QUESTION, []), {"question": QUESTION, "steps": WRONG}, (QUESTION, ["x " * 600]), 7]
    results = prm.score_batch(items, on_error="return", progress=False)
    assert [type(result) for result in results[1::2]] == [RequestError, RequestError]
    assert isinstance(results[4], RequestError)
    assert results[0].step_scores[0] > 0.9 > 0.1 > results[2].step_scores[1]
    with pytest.raises(BatchError) as raised:
        prm.score_batch(items, progress=False)
    assert [isinstance(result, PRMError) for result in raised.value.results] == [False, True, False, True, True]


def test_logits_that_are_not_finite_cost_only_their_solution(prm):
    encode = prm.llm.encode

    def spoil(*args, **options):
        outputs = encode(*args, **options)
        outputs[0].outputs.data = outputs[0].outputs.data.clone()
        outputs[0].outputs.data.view(len(RIGHT), -1)[1] = float("nan")
        return outputs

    with patch.object(prm.llm, "encode", spoil):
        bad, good = prm.score_batch([(QUESTION, RIGHT), (QUESTION, WRONG)], on_error="return", progress=False)
    assert "step 1" in str(bad)
    assert good.first_error() == 1


@pytest.mark.skipif(
    not hasattr(outputs, "RequestError"),
    reason="this vLLM's outputs name no failure: run it with vLLM 0.32 or later",
)
def test_a_request_that_the_engine_gave_up_costs_only_its_solution(prm):
    """As vLLM says it from 0.32 on: an output with an error, and nothing else in it."""
    encode = prm.llm.encode

    def give_up(*args, **options):
        _, *outputs = encode(*args, **options)
        return [SimpleNamespace(error=SimpleNamespace(message="out of blocks", retryable=True), outputs=None), *outputs]

    with patch.object(prm.llm, "encode", give_up):
        bad, good = prm.score_batch([(QUESTION, RIGHT), (QUESTION, WRONG)], on_error="return", progress=False)
    assert isinstance(bad, EngineError)
    assert "out of blocks" in str(bad)
    assert good.first_error() == 1


def test_more_solutions_than_are_planned_at_once_have_one_progress_bar(prm, capsys):
    items = [(QUESTION, RIGHT), (QUESTION, WRONG), 7] * 5
    with patch.multiple("vllm_prm.engine.serve.offline", _FIRST=2, _MOST=4):
        results = prm.score_batch(items, on_error="return")
    assert [result.first_error() for result in results if not isinstance(result, PRMError)] == [None, 1] * 5
    assert [isinstance(result, RequestError) for result in results] == [False, False, True] * 5
    shown = capsys.readouterr().err
    assert "Processed prompts" not in shown  # vLLM's own bars
    assert "| 10/10 [" in shown


def test_a_reward_function(prm):
    def solution(steps):
        return "\n".join(f"Step {k}: {step}" for k, step in enumerate(steps, 1))

    rewards = prm.reward_fn()(prompts=[QUESTION] * 2, completions=[solution(RIGHT), solution(WRONG)])
    assert rewards == pytest.approx([prm.score(QUESTION, steps).aggregate() for steps in (RIGHT, WRONG)], abs=1e-6)


def test_a_model_without_a_recipe_says_what_to_do():
    with pytest.raises(RecipeError, match="no recipe is known for 'mistralai/Mistral-7B-v0.1': name one"):
        PRM("mistralai/Mistral-7B-v0.1")
