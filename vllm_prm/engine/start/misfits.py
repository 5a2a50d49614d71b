"""Whether a model fits a recipe, without starting an engine: only its config and its tokenizer are read."""

from __future__ import annotations

from typing import Any

from vllm_prm.engine.settings import bound_recipe_of, settings_of
from vllm_prm.engine.start.options import engine_options
from vllm_prm.recipes import Recipe


def misfits(model: str, recipe: Recipe, options: dict[str, Any]) -> list[str]:
    """What does not fit of a model and a recipe, in sentences; none if all is well.

    options: as `LLM` takes them, beside the model.
    """
    from vllm.engine.arg_utils import EngineArgs

    try:
        model_config = EngineArgs(model=model, **engine_options(recipe, options)).create_model_config()
        settings_of(model_config)
        bound = bound_recipe_of(model_config)
    except Exception as error:  # noqa: BLE001 - whatever stops it here stops the engine, and is what to report
        return [f"{type(error).__name__}: {error}"]
    return [] if bound is None or bound.notice is None else [bound.notice]
