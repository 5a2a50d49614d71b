"""The request seam: `PoolingParams.verify`, which both the offline and the HTTP path call in the front end.

A request to a PRM is checked here, before the engine sees it, because an exception in the pooler would stop the
engine for everybody. And here it is decided whether it may *read* vLLM's prefix cache. Positions served from it have
no hidden state; the engine kept the logits of its own scoring tokens for them (score_cache.py), and of no others. A
request that asks for other tokens computes its whole prompt, or steps would silently have no score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vllm_prm.engine.settings import TASKS, check_ids, is_prm, keeps_scores

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.pooling_params import PoolingParams


def verify(original: Callable[..., None], params: PoolingParams, model_config: ModelConfig) -> None:
    """vLLM's own checks, then ours. Raises RequestError (HTTP 400, ValueError offline)."""
    if params.task not in TASKS or not is_prm(model_config):
        original(params, model_config)
        return
    step_tag_id, scoring_ids = params.step_tag_id, params.returned_token_ids
    check_ids(model_config, step_tag_id, scoring_ids)
    if not keeps_scores(model_config) or scoring_ids not in (None, model_config.pooler_config.returned_token_ids):
        params.skip_reading_prefix_cache = True
    elif params.skip_reading_prefix_cache is None:
        params.skip_reading_prefix_cache = False  # vLLM's own default for token_classify is True
    # vLLM accepts these two only from an engine with STEP pooling; a recipe needs no such flag.
    params.step_tag_id = params.returned_token_ids = None
    try:
        original(params, model_config)
    finally:
        params.step_tag_id, params.returned_token_ids = step_tag_id, scoring_ids
