"""vLLM's prefix cache is on, filled by every request, and never read by one: no step is lost."""

from __future__ import annotations

import random

import pytest
from checkpoints import TAG
from conftest import running
from oracle import TOLERANCE, Oracle, difference, prompt, tokens, words
from vllm import PoolingParams


@pytest.fixture(scope="module")
def pair(checkpoint):
    folder = checkpoint("mistral")
    options = {"hf_overrides": {"prm": "math-shepherd"}, "enable_prefix_caching": True, "block_size": 32}
    with running(folder, **options) as llm:
        assert llm.llm_engine.vllm_config.cache_config.enable_prefix_caching
        yield llm, Oracle(folder)


def scored(llm, ids, **params):
    (output,) = llm.encode([tokens(ids)], PoolingParams(**params), pooling_task="embed", use_tqdm=False)
    assert output.num_cached_tokens == 0
    return output.outputs.data


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
    for _ in range(2):
        assert difference(scored(llm, ids), expected) < TOLERANCE


def test_growing_prefixes(pair):
    llm, oracle = pair
    ids = prompt(random.Random(12), 20)
    ends = [i + 1 for i, id_ in enumerate(ids) if id_ == TAG]
    for count, end in enumerate(ends, start=1):
        found = scored(llm, ids[:end])
        assert len(found) == count
        assert difference(found, oracle.scores(ids[:end])) < TOLERANCE


def test_a_request_cannot_ask_for_the_cache(pair):
    llm, oracle = pair
    ids = three_hundred_tokens()
    assert difference(scored(llm, ids, skip_reading_prefix_cache=False), oracle.scores(ids)) < TOLERANCE


def test_the_cache_would_have_been_hit(pair):
    """Without this the tests above could pass because nothing was cached."""
    llm, _ = pair
    ids = three_hundred_tokens()
    scored(llm, ids)
    core = llm.llm_engine.engine_core.engine_core
    pool = core.scheduler.kv_cache_manager.block_pool
    assert len(pool.cached_block_hash_to_block) >= 300 // 32
