"""A recipe as options of vLLM's engine; what `--task`, `--prm` and PRM fill in."""

from __future__ import annotations

from typing import Any

from vllm_prm.engine.settings import ADAPTER, OVERRIDE
from vllm_prm.recipes import Recipe


def engine_options(recipe: Recipe, users_options: dict[str, Any], adapter: str | None = None) -> dict[str, Any]:
    """The keyword arguments (EngineArgs, LLM) that serve `recipe`, the user's own included.

    A `runner` of "generate" stays: such an engine generates text, and scores beside it. adapter: name of the LoRA
    adapter that the recipe is for; None: the base model.
    """
    overrides = dict(users_options.get("hf_overrides") or {})
    overrides[OVERRIDE] = recipe.to_json()
    if adapter is not None:
        overrides[ADAPTER] = adapter
    options = {**users_options, "hf_overrides": overrides}
    if options.get("runner") == "generate":
        return options
    options |= {"runner": "pooling", "convert": "embed"}
    if recipe.head == "own" and options.get("pooler_config") is None:
        from vllm.config import PoolerConfig

        # Pooled by STEP, such a model is started without chunked prefill and prefix caching, because vLLM's own pooler
        # would lose steps. Ours takes its place.
        options["pooler_config"] = PoolerConfig(tok_pooling_type="ALL")
    return options
