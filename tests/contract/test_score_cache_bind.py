"""vLLM's runner for GPUs binds KV caches twice: some blocks to measure CUDA graphs on, then those of the engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.config import CacheConfig

from vllm_prm.engine.worker import score_cache
from vllm_prm.engine.worker.score_cache import ScoreCache, _Slots

BLOCK, WIDTH = 16, 2


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(score_cache.logger, "info", lambda text, *values: lines.append(text % values))
    return lines


def test_what_it_takes_is_said_of_the_engines_own_blocks_only(said):
    config = SimpleNamespace(
        cache_config=CacheConfig(block_size=BLOCK),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        model_config=SimpleNamespace(get_total_num_hidden_layers=lambda: 0),
        compilation_config=SimpleNamespace(static_forward_context={}),
    )
    cache = ScoreCache(WIDTH, config)
    cache.get_kv_cache_spec(config)
    cache.bind_kv_cache(torch.zeros(4, 1, BLOCK, WIDTH))
    assert said == []
    cache.slots = _Slots(torch.arange(BLOCK), torch.zeros(1, 1, dtype=torch.int32))  # of a batch to measure with
    assert cache.ready

    config.cache_config.num_gpu_blocks = 1000
    cache.bind_kv_cache(torch.zeros(1000, 1, BLOCK, WIDTH))
    assert said == ["Score cache: 8 bytes per token, 0.1 MiB for 1000 blocks of 16 tokens."]
    assert not cache.ready, "the slots are those of blocks that are gone"
