"""Every step score equals plain transformers, in float32, however the scheduler cuts the prompts."""

from __future__ import annotations

import random

import pytest
from checkpoints import MINUS, PLUS, TAG
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from vllm import PoolingParams

STEPS = (1, 2, 20, 400)


@pytest.fixture(scope="module", params=["mistral", "tied_llama", "soft_capped_gemma2"])
def pair(request, checkpoint):
    """An engine whose batches hold 96 tokens, so that prompts are cut in the middle of steps; and the oracle."""
    folder = checkpoint(request.param)
    options = {"enable_chunked_prefill": True, "max_num_batched_tokens": 96, "max_num_seqs": 64}
    with running(folder, pooler_config=step_config(), **options) as llm:
        yield llm, Oracle(folder)


def scores(llm, prompts, params=None):
    outputs = llm.encode([tokens(p) for p in prompts], params, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs]


@pytest.mark.parametrize("steps", STEPS)
def test_one_prompt_at_a_time(pair, steps):
    llm, oracle = pair
    ids = prompt(random.Random(steps), steps)
    assert ids.count(TAG) == steps
    (found,) = scores(llm, [ids])
    assert difference(found, oracle.probabilities(ids).flatten()) < TOLERANCE


def test_sixty_four_at_once(pair):
    llm, oracle = pair
    rng = random.Random(64)
    prompts = [prompt(rng, rng.choice((0, 1, 2, 3, 20))) for _ in range(63)] + [prompt(rng, 400)]
    for ids, found in zip(prompts, scores(llm, prompts), strict=True):
        assert difference(found, oracle.probabilities(ids).flatten()) < TOLERANCE


def test_each_request_may_ask_for_its_own_tokens(pair):
    llm, oracle = pair
    rng = random.Random(7)
    asked = [(TAG, (PLUS, MINUS)), (28767, (1, 2, 3)), (TAG, (MINUS,)), (13, (31999, 0, PLUS, MINUS, 5))]
    asked = [asked[i % len(asked)] for i in range(24)]
    prompts = [prompt(rng, rng.randint(1, 9), tag) for tag, _ in asked]
    params = [PoolingParams(step_tag_id=tag, returned_token_ids=list(ids)) for tag, ids in asked]
    for ids, (tag, scoring), found in zip(prompts, asked, scores(llm, prompts, params), strict=True):
        assert difference(found, oracle.probabilities(ids, tag, scoring).flatten()) < TOLERANCE


def test_raw_logits_on_request(pair):
    llm, oracle = pair
    ids = prompt(random.Random(3), 5)
    (found,) = scores(llm, [ids], PoolingParams(use_activation=False))
    expected = oracle.logits(ids).flatten()
    assert difference(found, expected) < TOLERANCE * max(1.0, expected.abs().max().item())


def test_embed_gives_the_same_list(pair):
    llm, _ = pair
    ids = prompt(random.Random(4), 3)
    (output,) = llm.embed([tokens(ids)], use_tqdm=False)
    assert output.outputs.embedding == scores(llm, [ids])[0].tolist()


def test_tags_at_the_very_start_and_back_to_back(pair):
    llm, oracle = pair
    for ids in ([TAG], [1, TAG, TAG, TAG], [TAG, 5000, TAG]):
        (found,) = scores(llm, [ids])
        assert difference(found, oracle.probabilities(ids).flatten()) < TOLERANCE


def test_a_prompt_without_tags_gives_an_empty_list(pair):
    llm, _ = pair
    (found,) = scores(llm, [[1, 5000, 5001]])
    assert found.tolist() == []
