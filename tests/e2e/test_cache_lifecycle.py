"""What empties the score cache, what fills it, and what users see of it: resets, new weights, metrics, memory."""

from __future__ import annotations

import random

import pytest
from checkpoints import TAG, mistral, save
from conftest import running
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from safetensors.torch import load_file, save_file

from vllm_prm.engine.worker import score_cache

BLOCK = 32
OPTIONS = {"hf_overrides": {"prm": "math-shepherd"}, "block_size": BLOCK, "disable_log_stats": False}


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint("mistral")


@pytest.fixture(scope="module")
def other_folder(folder, tmp_path_factory):
    """The same model with other weights, as after a step of training."""
    path = tmp_path_factory.mktemp("checkpoints") / "trained"
    save(path, mistral)
    weights = load_file(path / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.0.mlp.down_proj.weight"))
    weights[name] = -weights[name]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


def scored(llm, ids):
    """Scores of one prompt, and how many of its tokens came from the cache."""
    (output,) = llm.encode([tokens(ids)], pooling_task="embed", use_tqdm=False)
    return output.outputs.data, output.num_cached_tokens


@pytest.fixture
def said(monkeypatch):
    """What the score cache logs; vLLM takes handlers off its logger while an engine starts."""
    lines: list[str] = []
    monkeypatch.setattr(score_cache.logger, "info", lambda message, *values: lines.append(message % values))
    return lines


def metric(llm, name: str) -> float:
    return sum(m.value for m in llm.get_metrics() if m.name == f"vllm:{name}")


def test_metrics_and_outputs_count_the_same_hits(folder, said):
    ids = prompt(random.Random(1), 20)
    with running(folder, **OPTIONS) as llm:
        blocks = llm.llm_engine.vllm_config.cache_config.num_gpu_blocks
        cached = [scored(llm, asked)[1] for asked in (ids, ids, ids[:100], [*ids, *ids[1:], TAG])]
        assert cached == [0, (len(ids) - 1) // BLOCK * BLOCK, 96, len(ids) // BLOCK * BLOCK]
        assert metric(llm, "prefix_cache_hits") == sum(cached)
        assert metric(llm, "prefix_cache_queries") == 2 * len(ids) + 100 + 2 * len(ids)
    mib = f"{8 * blocks * BLOCK / 2**20:.1f}"  # two scoring tokens: 8 bytes a token
    assert said == [f"Score cache: 8 bytes per token, {mib} MiB for {blocks} blocks of {BLOCK} tokens."]


def test_without_prefix_caching_no_memory_is_taken(folder, said):
    with running(folder, **OPTIONS, enable_prefix_caching=False) as llm:
        ids = prompt(random.Random(1), 20)
        assert [scored(llm, ids)[1] for _ in range(2)] == [0, 0]
    assert said == []


def test_a_reset_and_new_weights_leave_no_old_score(folder, other_folder):
    before, after = Oracle(folder), Oracle(other_folder)
    rng = random.Random(2)
    prompts = [prompt(rng, 20) for _ in range(4)]
    with running(folder, **OPTIONS) as llm:
        for ids in prompts:
            scored(llm, ids)
        assert llm.reset_prefix_cache()
        found, cached = scored(llm, prompts[0])
        assert cached == 0
        assert difference(found, before.scores(prompts[0])) < TOLERANCE

        llm.collective_rpc("reload_weights", kwargs={"weights_path": other_folder})
        found, cached = scored(llm, prompts[0])
        # vLLM does not empty its cache here: neither its KV nor our scores are those of the new weights.
        assert cached > 0
        assert difference(found, after.scores(prompts[0])) > 100 * TOLERANCE

        assert llm.reset_prefix_cache()
        for _ in range(2):  # computed, then from the cache
            for ids in prompts:
                found, cached = scored(llm, ids)
                assert difference(found, after.scores(ids)) < TOLERANCE
        assert cached > 0
        assert difference(after.scores(prompts[0]), before.scores(prompts[0])) > 100 * TOLERANCE
