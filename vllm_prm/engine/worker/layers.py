"""What the layers of a built model say of the caches they need."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.kv_cache_interface import AttentionSpec, FullAttentionSpec, KVCacheSpec

from vllm_prm.engine.compat import customized_spec

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def kv_cache_specs(vllm_config: VllmConfig, but: AttentionLayerBase | None = None) -> dict[str, KVCacheSpec]:
    """By layer, of those that keep anything of their own between tokens; `but` is a layer that is not asked."""
    specs = {}
    for name, layer in _attention_layers(vllm_config).items():
        spec = None if layer is but or _shares_kv(layer) else layer.get_kv_cache_spec(vllm_config)
        if isinstance(spec, AttentionSpec):  # as vLLM's runner does it: kernels may pack KV in their own way
            spec = customized_spec(layer.get_attn_backend(), spec)
        if spec is not None:
            specs[name] = spec
    return specs


def spec_to_match(vllm_config: VllmConfig, but: AttentionLayerBase) -> FullAttentionSpec | None:
    """The spec that a full-attention layer beside the model's (`but`) must have to join one of their KV groups.

    None where layers of any size are one group already. vLLM groups layers by their specs in two cases: where some
    layers keep a window only (and the hybrid KV cache manager is on), and where layers share the KV of others, which
    it does not find in a group of different sizes. None too if no layer of the model keeps plain keys and values of
    all tokens.
    """
    specs = kv_cache_specs(vllm_config, but)
    hybrid = not vllm_config.scheduler_config.disable_hybrid_kv_cache_manager
    windows = any(not isinstance(spec, FullAttentionSpec) for spec in specs.values())
    sharing = any(_shares_kv(layer) for layer in _attention_layers(vllm_config).values())
    if not (hybrid and windows) and not sharing:
        return None
    # Its subclasses, for MLA and others, store something else than one row of keys and values for each token.
    plain = [spec for spec in specs.values() if type(spec) is FullAttentionSpec and spec.tokens_per_state == 1]
    return Counter(plain).most_common(1)[0][0] if plain else None


def _shares_kv(layer: AttentionLayerBase) -> bool:
    """Whether it reads another layer's keys and values and keeps none."""
    return getattr(layer, "kv_sharing_target_layer_name", None) is not None


def _attention_layers(vllm_config: VllmConfig) -> dict[str, AttentionLayerBase]:
    layers = vllm_config.compilation_config.static_forward_context
    return {name: layer for name, layer in layers.items() if isinstance(layer, AttentionLayerBase)}
