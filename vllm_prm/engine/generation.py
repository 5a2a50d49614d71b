"""Whether an engine that generates text can score steps by a recipe; asked once, before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vllm_prm.engine.settings import is_prm, recipe_of, settings_of
from vllm_prm.errors import RecipeError, UnsupportedError
from vllm_prm.recipes import Recipe, load_recipe, recipe_for

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def check_generation(vllm_config: VllmConfig) -> None:
    """Raise UnsupportedError, with the flag that helps, if scores would be wrong or missing; RecipeError if the recipe
    does not fit the tokenizer or the model."""
    model_config = vllm_config.model_config
    recipe = recipe_of(model_config)
    assert recipe is not None
    check_recipe(recipe, vllm_config)
    settings_of(model_config)


def recipe_on(vllm_config: VllmConfig, recipe: Recipe | str | None) -> Recipe:
    """The recipe that an engine which is there can score by: its own, or on one that generates text the given one.

    None finds it by the model's name. Raises RecipeError if the engine was started with another one, UnsupportedError
    if it cannot score by it.
    """
    model_config = vllm_config.model_config
    own = recipe_of(model_config)
    if recipe is not None and not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    if model_config.runner_type == "generate":
        recipe = recipe or own or recipe_for(model_config.model, None, "PRM.from_llm(llm, recipe)")
        check_recipe(recipe, vllm_config)
        return recipe
    if not is_prm(model_config) or own is None:
        raise UnsupportedError(
            "this engine pools, and was not started as a PRM with a recipe: make it by PRM(model, recipe), or make one "
            'that generates text (LLM(model), without runner="pooling")'
        )
    if recipe not in (None, own):
        raise RecipeError(
            f"this engine was started with recipe {own.name!r}, and reads its tokens; {recipe.name!r} is another one. "
            "Leave recipe out, or make an engine for it"
        )
    return own


def check_recipe(recipe: Recipe, vllm_config: VllmConfig) -> None:
    """The part of it that needs no tokenizer."""
    if reasons := list(_reasons(recipe, vllm_config)):
        raise UnsupportedError(f"an engine that generates text cannot score by recipe {recipe.name!r}: {reasons[0]}")


def _reasons(recipe: Recipe, vllm_config: VllmConfig) -> Iterator[str]:
    from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

    model_config = vllm_config.model_config
    pooling = "start a pooling engine for it (--task embed instead of --runner generate)"
    if recipe.head != "lm_head":
        yield f"it reads the head {recipe.head!r}, and generation has only the output head; {pooling}"
    if len(recipe.weights) > MAX_LOGPROB_TOKEN_IDS:
        yield f"it has {len(recipe.weights)} scoring tokens, and vLLM gives {MAX_LOGPROB_TOKEN_IDS}; {pooling}"
    if model_config.is_diffusion or model_config.is_encoder_decoder:
        yield "a diffusion or encoder-decoder model has no next token after a step"
    mode = str(model_config.logprobs_mode)
    if recipe.activation == "sigmoid" and not mode.endswith("_logits"):
        yield (
            f"its activation is 'sigmoid', which needs logits, and --logprobs-mode {mode} gives log-probabilities; "
            f"add --logprobs-mode raw_logits, or {pooling}"
        )
    if recipe.reads_vocabulary and mode.endswith("_logits"):
        what = (
            "its activation is 'full_softmax'" if recipe.activation == "full_softmax" else "it tells the answers' mass"
        )
        yield (
            f"{what}, which needs log-probabilities, and --logprobs-mode {mode} gives logits; add --logprobs-mode "
            f"raw_logprobs, or {pooling}"
        )
    if mode.startswith("processed_") and model_config.logits_processors:
        yield (
            f"--logprobs-mode {mode} gives probabilities behind the logits processors that are loaded, which may move "
            "them; add --logprobs-mode raw_logprobs"
        )
    if vllm_config.speculative_config is not None and 0 <= model_config.max_logprobs < len(recipe.weights):
        yield (
            f"an engine that decodes speculatively is asked for its likeliest tokens, and --max-logprobs "
            f"{model_config.max_logprobs} leaves no room for {len(recipe.weights)} scoring tokens; give a larger one, "
            "or drop --speculative-config"
        )
