"""Prefixes are reused block by block, with the scores of an engine without caching, whatever the kind of attention.

The reference is vLLM itself without prefix caching: beyond a window its CPU attention is not that of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from attention_kinds import BLOCK, KINDS, KVGroups, engine, kv_groups, prompt, save, scored
from oracle import TOLERANCE, difference
from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

from sweep.small_engine import inspect_models_here, nontrivial_weights
from vllm_prm.engine.worker import score_cache

LONG = prompt(1, 430)  # longer than every window but Mistral's own
ENDS = [45, 60, 100, 170, 171, 290, 430]
CROWD = [prompt(seed, 420) for seed in range(2, 8)]


@dataclass
class Pair:
    """An engine, and what the same model says without prefix caching."""

    llm: Any
    more_layers: int
    without_scores: KVGroups
    expected: dict[tuple[int, ...], Any]

    def check(self, *prompts: list[int]) -> list[int]:
        """Score them in one batch; returns how many of their tokens came from the cache."""
        all_scores, cached = scored(self.llm, *prompts)
        for ids, scores in zip(prompts, all_scores, strict=True):
            assert difference(scores, self.expected[tuple(ids)]) < TOLERANCE
        return cached


@pytest.fixture(scope="module")
def _made_up_weights():
    with pytest.MonkeyPatch.context() as patch:
        from vllm.model_executor.models.registry import _LazyRegisteredModel

        patch.setattr(DummyModelLoader, "load_weights", DummyModelLoader.load_weights)  # put back afterwards
        patch.setattr(_LazyRegisteredModel, "inspect_model_cls", _LazyRegisteredModel.inspect_model_cls)
        nontrivial_weights()
        inspect_models_here()
        yield


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory, _made_up_weights):
    kind = KINDS[request.param]
    folder = save(tmp_path_factory.mktemp("kind"), kind)
    prompts = [*CROWD, *(LONG[:end] for end in ENDS)]
    with engine(folder, enable_prefix_caching=False) as llm:
        groups = kv_groups(llm)
        all_scores, cached = scored(llm, *prompts)
    assert set(cached) == {0}
    expected = {tuple(ids): scores for ids, scores in zip(prompts, all_scores, strict=True)}
    with engine(folder, num_gpu_blocks_override=kind.blocks) as llm:
        yield Pair(llm, kind.more_layers, groups, expected)


@pytest.fixture(autouse=True)
def _empty_cache(request):
    if "pair" in request.fixturenames:
        assert request.getfixturevalue("pair").llm.reset_prefix_cache()


def test_the_same_prompt_twice(pair):
    for end in (60, 430):
        assert pair.llm.reset_prefix_cache()
        assert pair.check(LONG[:end]) == [0]
        assert pair.check(LONG[:end]) == [(end - 1) // BLOCK * BLOCK]


def test_growing_prefixes(pair):
    assert pair.check(LONG[: ENDS[0]]) == [0]
    for end, longer in pairwise(ENDS):
        assert pair.check(LONG[:longer]) == [end // BLOCK * BLOCK]


def test_a_pool_that_evicts_and_preempts(pair):
    before = preemptions(pair.llm)
    pair.check(*CROWD)
    assert preemptions(pair.llm) > before, "this engine no longer preempts here, so the test shows nothing"
    for ids in (*CROWD[:2], LONG, CROWD[0], LONG):
        pair.check(ids)
    assert pair.check(LONG) == [(len(LONG) - 1) // BLOCK * BLOCK]


def test_the_score_cache_is_one_layer_in_the_models_own_groups(pair):
    groups, without = kv_groups(pair.llm), pair.without_scores
    assert set(groups.block_sizes) == {BLOCK}
    assert len(groups.block_sizes) <= len(without.block_sizes) + 1
    assert groups.layers == without.layers + 1
    more = (groups.bytes_per_piece - without.bytes_per_piece) / groups.page
    assert more == pytest.approx(pair.more_layers, abs=0.02)  # 8 bytes beside 512 of a layer's KV


@pytest.mark.usefixtures("_made_up_weights")
def test_shared_kv_without_the_hybrid_manager(tmp_path):
    """Layers that share KV must find the layer they share it with in a group of one spec, or vLLM does not start."""
    folder = save(tmp_path, KINDS["windows and shared KV (Gemma 3n)"])
    with engine(folder, disable_hybrid_kv_cache_manager=True) as llm:
        (first,), _ = scored(llm, LONG)
        (again,), cached = scored(llm, LONG)
        assert len(kv_groups(llm).block_sizes) == 1
    assert cached == [(len(LONG) - 1) // BLOCK * BLOCK]
    assert difference(again, first) < TOLERANCE


@pytest.mark.usefixtures("_made_up_weights")
def test_the_users_word_is_kept_and_the_engine_says_what_it_costs(tmp_path, monkeypatch):
    folder = save(tmp_path, KINDS["short window in all layers"])
    warnings = []
    monkeypatch.setattr(score_cache.logger, "warning", lambda text, *values: warnings.append(text % values))
    with engine(folder, disable_hybrid_kv_cache_manager=False) as llm:
        (first,), _ = scored(llm, LONG)
        (again,), cached = scored(llm, LONG)
    assert cached == [0]
    assert difference(again, first) < TOLERANCE
    assert len(warnings) == 1
    assert f"not of {BLOCK}" in warnings[0]
    assert "--disable-hybrid-kv-cache-manager" in warnings[0]


def preemptions(llm):
    return {m.name: m.value for m in llm.get_metrics() if hasattr(m, "value")}["vllm:num_preemptions"]
