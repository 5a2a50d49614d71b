"""Requests read vLLM's prefix cache and lose no step: scores of cached positions are those of a fresh pass."""

from __future__ import annotations

import random

import pytest
from checkpoints import MINUS, PLUS, TAG
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens, words
from vllm import PoolingParams

from vllm_prm.engine.positions import positions_request

BLOCK = 32


@pytest.fixture(scope="module")
def pair(checkpoint):
    folder = checkpoint("mistral")
    with running(folder, hf_overrides={"prm": "math-shepherd"}, block_size=BLOCK, max_num_batched_tokens=256) as llm:
        assert llm.llm_engine.vllm_config.cache_config.enable_prefix_caching  # on by default, with chunks of 256
        yield llm, Oracle(folder)


@pytest.fixture(autouse=True)
def _empty_cache(pair):
    assert pair[0].reset_prefix_cache()


def scored(llm, *prompts, **params):
    """Scores of each prompt, and how many of its tokens came from the cache."""
    asked = [tokens(ids) for ids in prompts]
    outputs = llm.encode(asked, PoolingParams(**params), pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs], [output.num_cached_tokens for output in outputs]


def three_hundred_tokens() -> list[int]:
    rng = random.Random(300)
    ids = [1]
    while len(ids) < 300:
        ids += [*words(rng, 14), TAG]
    return ids[:299] + [TAG]


def test_the_same_prompt_twice(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    expected = oracle.scores(ids)
    assert len(expected) >= 20
    for cached in (0, 9 * BLOCK):  # vLLM reuses whole blocks: 288 of 300 tokens
        (found,), (count,) = scored(llm, ids)
        assert count == cached
        assert difference(found, expected) < TOLERANCE


def test_growing_prefixes(pair):
    llm, oracle = pair
    ids = prompt(random.Random(12), 20)
    ends = [i + 1 for i, id_ in enumerate(ids) if id_ == TAG]
    hits = []
    for count, end in enumerate(ends, start=1):
        (found,), (cached,) = scored(llm, ids[:end])
        assert len(found) == count
        assert difference(found, oracle.scores(ids[:end])) < TOLERANCE
        hits.append(cached)
    assert hits[-1] >= ends[-2] - BLOCK, "the longest prefix was not reused, so this shows nothing"


def test_the_same_prompt_many_times_in_one_batch(pair):
    """Later requests of a batch share blocks that the first is computing in that very batch."""
    llm, oracle = pair
    ids = three_hundred_tokens()
    found, cached = scored(llm, *[ids] * 8)
    assert max(cached) > 0
    for scores in found:
        assert difference(scores, oracle.scores(ids)) < TOLERANCE


@pytest.mark.parametrize("place", [0, 1, BLOCK - 2, BLOCK - 1])
def test_tags_at_the_borders_of_a_block(pair, place):
    llm, oracle = pair
    rng = random.Random(place)
    ids = words(rng, 5 * BLOCK)
    for block in range(5):
        ids[block * BLOCK + place] = TAG
    for end in (3 * BLOCK, 5 * BLOCK, 4 * BLOCK + 1):
        (found,), _ = scored(llm, ids[:end])
        assert difference(found, oracle.scores(ids[:end])) < TOLERANCE


def test_any_tag_can_be_read_later(pair):
    """Scores are kept for every position, not for the tag of the request that computed them."""
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    other = ids[7]
    (found,), (cached,) = scored(llm, ids, step_tag_id=other)
    assert cached == 9 * BLOCK
    expected = oracle.probabilities(ids, tag=other)[:, 0]
    assert difference(found, expected) < TOLERANCE


def test_raw_logits_from_the_cache(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    (found,), (cached,) = scored(llm, ids, use_activation=False)
    assert cached == 9 * BLOCK
    assert difference(found, oracle.logits(ids).flatten()) < 1e-4  # logits of size 10


@pytest.mark.parametrize("asked", [[5, PLUS], [MINUS, PLUS], [PLUS]])
def test_other_scoring_tokens_compute_the_whole_prompt(pair, asked):
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    (found,), (cached,) = scored(llm, ids, returned_token_ids=asked)
    assert cached == 0
    assert difference(found, oracle.probabilities(ids, TAG, tuple(asked)).flatten()) < TOLERANCE


def test_a_request_that_names_the_engines_own_tokens_reads_the_cache(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    (found,), (cached,) = scored(llm, ids, returned_token_ids=[PLUS, MINUS])
    assert cached == 9 * BLOCK
    assert difference(found, oracle.scores(ids)) < TOLERANCE


def test_tags_and_positions_in_one_batch(pair):
    """Those that name positions hand no token ids over, and their prompts stand beside those that do."""
    llm, oracle = pair
    prompts = [prompt(random.Random(seed), 2 + 3 * seed) for seed in range(6)]
    positions = [[i for i, id_ in enumerate(ids) if id_ == TAG][::2] for ids in prompts]
    params = [
        PoolingParams(extra_kwargs=positions_request(where)) if number % 2 else PoolingParams()
        for number, where in enumerate(positions)
    ]
    for _ in range(2):  # computed, then cached
        outputs = llm.encode(list(map(tokens, prompts)), params, pooling_task="embed", use_tqdm=False)
        for number, (ids, output) in enumerate(zip(prompts, outputs, strict=True)):
            expected = oracle.scores(ids)[::2] if number % 2 else oracle.scores(ids)
            assert difference(output.outputs.data, expected) < TOLERANCE


def test_a_request_cannot_ask_for_a_cache_that_does_not_fit_it(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    (found,), (cached,) = scored(llm, ids, returned_token_ids=[5, PLUS], skip_reading_prefix_cache=False)
    assert cached == 0
    assert difference(found, oracle.probabilities(ids, TAG, (5, PLUS)).flatten()) < TOLERANCE


def test_a_request_may_stay_out_of_the_cache(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    (found,), (cached,) = scored(llm, ids, skip_reading_prefix_cache=True)
    assert cached == 0
    assert difference(found, oracle.scores(ids)) < TOLERANCE


def test_vllms_own_flags_with_the_cache_turned_on(checkpoint):
    folder = checkpoint("mistral")
    ids = three_hundred_tokens()
    options = {"enable_prefix_caching": True, "block_size": BLOCK}
    with running(folder, pooler_config=step_config(task="token_classify"), **options) as llm:
        for cached in (0, 9 * BLOCK):
            (output,) = llm.encode([tokens(ids)], pooling_task="token_classify", use_tqdm=False)
            assert output.num_cached_tokens == cached
            assert difference(output.outputs.data, Oracle(folder).probabilities(ids)) < TOLERANCE
