"""A recipe as options of vLLM's engine; what `--task`, `--prm` and PRM fill in."""

from __future__ import annotations

from typing import Any

from vllm_prm.engine.settings import OVERRIDE
from vllm_prm.recipes import Recipe


def engine_options(recipe: Recipe, users_options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments (EngineArgs, LLM) that serve `recipe`, the user's own included."""
    overrides = dict(users_options.get("hf_overrides") or {})
    if recipe.architecture is not None:
        overrides.setdefault("architectures", [recipe.architecture])
    options = {**users_options, "runner": "pooling", "convert": "embed"}
    options["hf_overrides"] = {**overrides, OVERRIDE: recipe.to_json()}
    if recipe.head == "own" and options.get("pooler_config") is None:
        from vllm.config import PoolerConfig

        # Pooled by STEP, such a model is started without chunked prefill and prefix caching, because vLLM's own pooler
        # would lose steps. Ours takes its place.
        options["pooler_config"] = PoolerConfig(tok_pooling_type="ALL")
    return options
