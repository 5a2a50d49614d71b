"""What the layers of a built model say of the caches they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.kv_cache_interface import KVCacheSpec

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def kv_cache_specs(vllm_config: VllmConfig) -> dict[str, KVCacheSpec]:
    """By layer, of those that keep anything between tokens."""
    layers = vllm_config.compilation_config.static_forward_context
    specs = {
        name: layer.get_kv_cache_spec(vllm_config)
        for name, layer in layers.items()
        if isinstance(layer, AttentionLayerBase)
    }
    return {name: spec for name, spec in specs.items() if spec is not None}
