"""What the score cache costs beside the layers of published models: vLLM's own grouping of their KV, without weights.

The sizes are those of the checkpoints' config.json, in bfloat16, blocks of 16 tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.utils.math_utils import cdiv
from vllm.v1.attention.backend import AttentionBackend
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec, UniformTypeKVCacheSpecs

from vllm_prm.engine.compat import kv_planning
from vllm_prm.engine.worker.layers import kv_cache_specs
from vllm_prm.engine.worker.score_cache import ScoreCache, _Slots

BLOCK = 16
LAYOUT = SimpleNamespace(is_block_outermost=False)  # vLLM's default


class Backend(AttentionBackend):
    """As CPUs and FlashAttention: KV is not packed, and any multiple of 16 tokens is a block."""

    get_name = staticmethod(lambda: "TEST")
    get_impl_cls = get_builder_cls = staticmethod(lambda: None)


class Layer(AttentionLayerBase):
    def __init__(self, spec, target=None):
        self.spec, self.kv_sharing_target_layer_name = spec, target

    def get_attn_backend(self):
        return Backend

    def get_kv_cache_spec(self, vllm_config):
        return self.spec


def full(heads, size):
    return FullAttentionSpec(block_size=BLOCK, num_kv_heads=heads, head_size=size, dtype=torch.bfloat16)


def window(heads, size, tokens):
    return SlidingWindowSpec(
        block_size=BLOCK, num_kv_heads=heads, head_size=size, dtype=torch.bfloat16, sliding_window=tokens
    )


def every(nth, layers, local, whole):
    """Of `layers` layers, every nth is `whole`, the others `local`."""
    return [whole if i % nth == nth - 1 else local for i in range(layers)]


MLA = MLAAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=576, dtype=torch.bfloat16)
MODELS = {
    "Llama 3.1 8B": [full(8, 128)] * 32,
    "DeepSeek V3": [MLA] * 61,
    "Mistral 7B v0.1": [window(8, 128, 4096)] * 32,
    "gpt-oss 20B": every(2, 24, window(8, 64, 128), full(8, 64)),
    "Gemma 2 9B": every(2, 42, window(8, 256, 4096), full(8, 256)),
    "Gemma 3 4B": every(6, 34, window(4, 256, 1024), full(4, 256)),
    "Gemma 3 12B": every(6, 48, window(8, 256, 1024), full(8, 256)),
    "Gemma 3 27B": every(6, 62, window(16, 128, 1024), full(16, 128)),
    "Gemma 3n E4B": every(5, 20, window(2, 256, 512), full(2, 256)),
}


@dataclass
class Plan:
    """How vLLM groups the KV of a model, whose layers all have pages of one size."""

    groups: list
    page: int

    def layers_of_kv(self, tokens):
        """KV of one prompt, in layers that keep all of its tokens. All groups take blocks of the largest one's size."""
        blocks = sum(cdiv(min(tokens, window_of(group)), BLOCK) for group in self.groups)
        return blocks / cdiv(tokens, BLOCK) * max(self.pages(group) for group in self.groups)

    def pages(self, group):
        spec = group.kv_cache_spec
        layers = 1 if isinstance(spec, UniformTypeKVCacheSpecs) else len(group.layer_names)  # the former sums them up
        return layers * spec.page_size_bytes / self.page


def window_of(group):
    spec = group.kv_cache_spec
    return spec.sliding_window if isinstance(spec, SlidingWindowSpec) else math.inf


def plan(specs, width=2, hybrid=True, sharing=0):
    """Of layers with these specs, and `sharing` more that read the last one's KV. width: scoring tokens, 0 if none."""
    names = [f"model.layers.{i}.attn" for i in range(len(specs) + sharing)]
    layers = {name: Layer(spec) for name, spec in zip(names, specs, strict=False)}
    layers |= {name: Layer(specs[-1], target=names[len(specs) - 1]) for name in names[len(specs) :]}
    vllm_config = config_of(layers, hybrid)
    if width:
        ScoreCache(width, vllm_config)
    return Plan(kv_planning().get_kv_cache_groups(vllm_config, kv_cache_specs(vllm_config)), specs[0].page_size_bytes)


def config_of(layers, hybrid=True):
    """What vLLM's grouping and our layer read of a VllmConfig."""
    return SimpleNamespace(
        model_config=SimpleNamespace(get_total_num_hidden_layers=lambda: len(layers)),
        compilation_config=SimpleNamespace(static_forward_context=layers),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=not hybrid),
        cache_config=SimpleNamespace(block_size=BLOCK, get_resolved_kv_cache_layout=lambda: LAYOUT),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
    )


# The table of docs/score-cache.md: groups without and with the score cache, and the layers of KV of a prompt of 500
# and of 4,000 tokens, without and with it.
TABLE = {
    "Llama 3.1 8B": ((1, 1), (32, 32), (32, 32)),
    "DeepSeek V3": ((1, 1), (61, 61), (61, 61)),
    "Mistral 7B v0.1": ((1, 1), (32, 32), (32, 32)),
    "gpt-oss 20B": ((2, 2), (15, 16.3), (12.4, 13.4)),
    "Gemma 2 9B": ((2, 2), (42, 44), (42, 44)),
    "Gemma 3 4B": ((7, 6), (35, 36), (12.7, 13.7)),
    "Gemma 3 12B": ((6, 6), (48, 54), (18.2, 20.5)),
    "Gemma 3 27B": ((7, 6), (70, 66), (25.4, 25.1)),
    "Gemma 3n E4B": ((5, 5), (20, 25), (6, 7.6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_small_pieces_for_one_more_layer_at_most_and_what_vllm_pads(name):
    all_windows = all(isinstance(spec, SlidingWindowSpec) for spec in MODELS[name])  # engine/start/windows.py
    without, with_scores = plan(MODELS[name], width=0), plan(MODELS[name], hybrid=not all_windows)
    assert {group.kv_cache_spec.block_size for group in with_scores.groups} == {BLOCK}
    groups, *costs = TABLE[name]
    assert (len(without.groups), len(with_scores.groups)) == groups
    for tokens, layers in zip((500, 4000), costs, strict=True):
        assert (without.layers_of_kv(tokens), with_scores.layers_of_kv(tokens)) == pytest.approx(layers, abs=0.06)


def test_what_is_avoided():
    """A layer of small pages beside windows: a group for each layer, and pieces of thousands of tokens."""
    mistral = plan(MODELS["Mistral 7B v0.1"])
    assert len(mistral.groups) == 33
    assert {group.kv_cache_spec.block_size for group in mistral.groups} == {BLOCK, 8192}


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("name", ["Gemma 3n E4B", "Llama 3.1 8B"])
def test_layers_that_share_kv_find_their_group(name, hybrid):
    """vLLM puts them into the group of the layer they read, and fails if that keeps a spec for each of its layers."""
    with_scores = plan(MODELS[name], hybrid=hybrid, sharing=15)
    assert not any(isinstance(group.kv_cache_spec, UniformTypeKVCacheSpecs) for group in with_scores.groups)
    assert {group.kv_cache_spec.block_size for group in with_scores.groups} == {BLOCK}


def test_a_row_that_has_no_room_in_a_models_page_gets_pages_of_its_own():
    room = 64 * 2 * 2 // 4  # gpt-oss: a head of 64, its keys and values, in bfloat16; a row is in float32
    specs = MODELS["gpt-oss 20B"]
    assert len(plan(specs, width=room).groups) == 2
    assert len(plan(specs, width=room + 1).groups) > 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("heads_inside", [False, True])
def test_rows_live_in_pages_of_any_dtype_and_layout(dtype, heads_inside):
    blocks, heads, content, width = 5, 3, 64, 7
    shape = (blocks, BLOCK, heads, content) if heads_inside else (blocks, heads, BLOCK, content)
    pages = torch.zeros((2, *shape), dtype=torch.float32).to(dtype).transpose(0, 1)[:, 1]  # beside another layer's
    cache = ScoreCache(width, config_of({}))
    cache.bind_kv_cache(pages.transpose(1, 2) if heads_inside else pages)
    slots = torch.randperm(blocks * BLOCK)
    cache.slots = _Slots(slots, torch.arange(blocks)[None])
    logits = torch.randn(len(slots), width)
    cache.write(logits)
    assert torch.equal(cache.read(torch.zeros_like(slots), slots), logits)
