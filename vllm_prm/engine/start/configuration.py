"""The configuration seam: `EngineArgs.create_engine_config`, which every way to start an engine calls.

Invariant: nothing changes in an engine that has no recipe and no step pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.generation import check_generation
from vllm_prm.engine.settings import is_prm, scores_by_generating
from vllm_prm.engine.start.architecture import name_architecture
from vllm_prm.engine.start.windows import keep_all_tokens

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.engine.arg_utils import EngineArgs


def create_engine_config(
    original: Callable[..., VllmConfig], engine_args: EngineArgs, *args: Any, **kwargs: Any
) -> VllmConfig:
    """vLLM's configuration, as a PRM needs it. Raises PRMError if a recipe cannot be scored by a generate engine."""
    name_architecture(engine_args)
    vllm_config = original(engine_args, *args, **kwargs)
    if is_prm(vllm_config.model_config) and engine_args.disable_hybrid_kv_cache_manager is None:
        keep_all_tokens(vllm_config)
    elif scores_by_generating(vllm_config.model_config):
        check_generation(vllm_config.model_config)
    return vllm_config
