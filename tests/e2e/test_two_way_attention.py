"""Models that attend in both directions reuse nothing of a prefix. Those that do: test_reuse_by_attention.py."""

from __future__ import annotations

import random

import pytest
from checkpoints import SMALL, save
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from transformers import LlamaConfig, LlamaForCausalLM
from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

from sweep import configs
from sweep.small_engine import SCORING, TAG, nontrivial_weights
from vllm_prm.errors import UnsupportedError

BLOCK = 32
IDS = prompt(random.Random(3), 40)


def twice(llm, ids=IDS):
    """Scores of the same prompt, computed and then asked again, and how many of its tokens were cached then."""
    found, cached = [], []
    for _ in range(2):
        (output,) = llm.encode([tokens(ids)], pooling_task="embed", use_tqdm=False)
        found.append(output.outputs.data)
        cached.append(output.num_cached_tokens)
    assert cached[0] == 0
    return found, cached[1]


def two_way():
    return LlamaForCausalLM(LlamaConfig(**SMALL, is_causal=False))


def test_two_way_attention_reuses_nothing(tmp_path):
    folder = save(tmp_path / "model", two_way)
    with running(folder, pooler_config=step_config(), max_model_len=1024) as llm:
        found, cached = twice(llm)
    assert cached == 0
    expected = Oracle(folder).probabilities(IDS).flatten()
    assert all(difference(scores, expected) < TOLERANCE for scores in found)
    asked = {"enable_prefix_caching": True, "enable_chunked_prefill": True}
    with (
        pytest.raises(UnsupportedError, match=r"--no-enable-prefix-caching.*--no-enable-chunked-prefill"),
        running(folder, pooler_config=step_config(), max_model_len=1024, **asked),
    ):
        pass


def test_a_prefix_lm_reuses_nothing(tmp_path, monkeypatch):
    """Its prompts are read two-way: what is cached of one does not hold in a longer one. vLLM turns reuse off."""
    monkeypatch.setattr(DummyModelLoader, "load_weights", DummyModelLoader.load_weights)  # put back afterwards
    nontrivial_weights()
    configs.write("HrmTextForCausalLM", str(tmp_path))
    rng = random.Random(4)
    ids = [TAG if i % 15 == 14 else rng.randrange(100, 900) for i in range(120)]
    step = step_config(step_tag_id=TAG, returned_token_ids=list(SCORING[:2]))
    options = {"load_format": "dummy", "max_model_len": 256, "block_size": BLOCK, "enable_prefix_caching": True}
    with running(str(tmp_path), pooler_config=step, **options) as llm:
        first, cached = twice(llm, ids[:90])
        longer, more_cached = twice(llm, ids)
    assert cached == more_cached == 0
    assert len(first[0]) == 2 * 6
    assert len(longer[0]) == 2 * 8
    assert difference(first[0], first[1]) < TOLERANCE
    assert difference(longer[0], longer[1]) < TOLERANCE
    assert difference(longer[0][:12], first[0]) > 100 * TOLERANCE, "the model does not attend two-way"
    small = {"max_num_batched_tokens": 64, "enable_chunked_prefill": True}  # vLLM turns that off when it has the layers
    with (
        pytest.raises(UnsupportedError, match="add --max-num-batched-tokens 256, or --max-model-len 64"),
        running(str(tmp_path), pooler_config=step, **{**options, **small}),
    ):
        pass
