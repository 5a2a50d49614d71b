"""What the layers of a built model say of the caches they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.kv_cache_interface import KVCacheSpec

from vllm_prm.errors import UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def kv_cache_specs(vllm_config: VllmConfig) -> dict[str, KVCacheSpec]:
    """By layer, of those that keep anything between tokens."""
    layers = vllm_config.compilation_config.static_forward_context
    found = {
        name: layer.get_kv_cache_spec(vllm_config)
        for name, layer in layers.items()
        if isinstance(layer, AttentionLayerBase)
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def refuse_prompts_that_never_start(vllm_config: VllmConfig) -> None:
    """Raise UnsupportedError where a prompt may be longer than the batch that it must fit into.

    A layer that reads prompts two-way (a prefix LM's) makes vLLM turn chunked prefill off, but only when it has the
    layers, after it looked whether a batch has room for the longest prompt. It would wait for a longer one forever.
    """
    batch, longest = vllm_config.scheduler_config.max_num_batched_tokens, vllm_config.model_config.max_model_len
    if batch < longest and any(getattr(spec, "non_causal", False) for spec in kv_cache_specs(vllm_config).values()):
        raise UnsupportedError(
            "this engine cannot serve a process reward model: the tokens of a prompt attend to each other both ways in "
            f"this model, so vLLM computes a prompt in one batch, and one longer than {batch} tokens would wait "
            f"forever; add --max-num-batched-tokens {longest}, or --max-model-len {batch}"
        )
