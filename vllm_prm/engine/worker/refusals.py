"""What works, but not as one would expect: said once when the engine starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def cautions(vllm_config: VllmConfig) -> list[str]:
    """Sentences about this engine's settings, each with what to do; mostly none."""
    from vllm.platforms import current_platform

    said = []
    if vllm_config.lora_config is not None and current_platform.is_cpu():
        said.append(
            "LoRA on a CPU: in a batch that mixes requests with and without an adapter, vLLM's CPU kernels give those "
            "without one the adapter of the last slot, so their scores would be wrong. Start with --max-loras one "
            f"higher than the number of adapters you load (it is {vllm_config.lora_config.max_loras} now), which "
            "leaves the last slot empty."
        )
    return said
