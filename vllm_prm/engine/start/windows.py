"""One decision of a PRM engine's configuration: whether a PRM whose layers all have a window keeps the KV of all
tokens. The scores of steps before the window must be kept, so such a model (Mistral 7B v0.1, Math-Shepherd among its
children) needs a layer without a window beside layers that have one. vLLM's hybrid KV cache manager would make a KV
group of each layer then, and reuse prefixes in pieces of thousands of tokens. Without it all layers are one group, and
prefixes are reused block by block. A model that has layers of both kinds needs nothing: the score cache joins the full
ones (worker/layers.py).

Invariant: what the user says of the manager is not changed, and nothing in an engine that is no PRM
(configuration.py asks for both).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.logger import init_logger

from vllm_prm.engine.settings import keeps_scores

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = init_logger(f"vllm.{__name__}")


def keep_all_tokens(vllm_config: VllmConfig) -> None:
    """Turn the manager off in a PRM engine where that is worth it; the user has said nothing about it.

    Nothing has been derived from the flag by now: vLLM reads it when it groups the layers, in the engine core.
    """
    model_config, cache_config = vllm_config.model_config, vllm_config.cache_config
    window = cache_config.sliding_window  # vLLM sets it only if all layers have one
    if window is None or model_config.use_mla:  # MLA has no such window, whatever the config says
        return
    if not cache_config.enable_prefix_caching or not keeps_scores(model_config):
        return
    if vllm_config.scheduler_config.disable_hybrid_kv_cache_manager:
        return  # vLLM itself turned it off
    vllm_config.scheduler_config.disable_hybrid_kv_cache_manager = True
    logger.info(
        "The hybrid KV cache manager is off, so that prefixes are reused block by block: all layers of this model have "
        "a sliding window. It costs KV memory for prompts longer than the window (%d tokens), all of whose tokens are "
        "kept. --no-disable-hybrid-kv-cache-manager turns it on.",
        window,
    )
