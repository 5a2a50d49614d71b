"""The request seam: `PoolingParams.verify`, which both the offline and the HTTP path call in the front end.

A request to a PRM is checked here, before the engine sees it, because an exception in the pooler would stop the
engine for everybody. And here it is decided whether it may *read* vLLM's prefix cache. Positions served from it have
no hidden state; the engine kept the logits of its own scoring tokens for them (score_cache.py), and of no others. A
request that asks for other tokens computes its whole prompt, or steps would silently have no score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vllm_prm.engine.positions import check_positions
from vllm_prm.engine.settings import TASKS, check_ids, is_prm, keeps_scores, recipe_of, settings_of
from vllm_prm.errors import RequestError

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.pooling_params import PoolingParams


def verify(original: Callable[..., None], params: PoolingParams, model_config: ModelConfig) -> None:
    """vLLM's own checks, then ours. Raises RequestError (HTTP 400, ValueError offline)."""
    if params.task not in TASKS or not is_prm(model_config):
        original(params, model_config)
        return
    step_tag_id, scoring_ids = params.step_tag_id, params.returned_token_ids
    _check(params, model_config)
    if not _may_read_prefix_cache(scoring_ids, model_config):
        params.skip_reading_prefix_cache = True
    elif params.skip_reading_prefix_cache is None:
        params.skip_reading_prefix_cache = False  # vLLM's own default for token_classify is True
    # vLLM accepts these two only from an engine with STEP pooling; a recipe needs no such flag.
    params.step_tag_id = params.returned_token_ids = None
    try:
        original(params, model_config)
    finally:
        params.step_tag_id, params.returned_token_ids = step_tag_id, scoring_ids


def _check(params: PoolingParams, model_config: ModelConfig) -> None:
    check_ids(model_config, params.step_tag_id, params.returned_token_ids)
    recipe = recipe_of(model_config)
    if params.returned_token_ids is not None and recipe is not None and recipe.head != "lm_head":
        raise RequestError(
            f"returned_token_ids chooses columns of the output head, but recipe {recipe.name!r} reads a head of its "
            "own; leave it out"
        )
    names_positions = check_positions(params.extra_kwargs, model_config.max_model_len)
    if names_positions and params.step_tag_id is not None:
        raise RequestError("a request names both step_tag_id and positions; positions need no tag: drop one of the two")


def _may_read_prefix_cache(scoring_ids: list[int] | None, model_config: ModelConfig) -> bool:
    if not keeps_scores(model_config):
        return False
    return scoring_ids is None or settings_of(model_config).keep(scoring_ids)
