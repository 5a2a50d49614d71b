"""What a PRM engine's model is given: settings before it is built, a pooler when its layers are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.settings import StepSettings, bound_recipe_of, recipe_of, settings_of

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from vllm_prm.engine.worker.pooler import StepPooler
    from vllm_prm.recipes import BoundRecipe


def settings_for(vllm_config: VllmConfig, model_cls: type, heads: tuple[str, ...]) -> StepSettings:
    """What this engine reads, checked against the configuration, the served tokenizer and the model's class.

    heads: those that a model of this class can be read by. Raises UnsupportedError or RecipeError.
    """
    from vllm.logger import init_logger

    from vllm_prm.engine.worker.refusals import cautions, refuse_configuration, refuse_head

    logger = init_logger(f"vllm.{__name__}")
    refuse_configuration(vllm_config, model_cls)
    recipe = recipe_of(vllm_config.model_config)
    refuse_head("lm_head" if recipe is None else recipe.head, model_cls, heads)
    settings = settings_of(vllm_config.model_config)
    bound = bound_recipe_of(vllm_config.model_config)
    if bound is not None and bound.notice is not None:
        logger.warning(bound.notice)
    for caution in cautions(vllm_config):
        logger.warning(caution)
    logger.info(
        "Serving a process reward model (recipe %s): step tag %s, scoring tokens %s.",
        "none, from the pooler config" if bound is None else bound.recipe.name,
        " or ".join(map(str, (tag[0] if len(tag) == 1 else list(tag) for tag in settings.step_tags))) or "none",
        list(settings.scoring_ids),
    )
    if bound is not None:
        for line in _about_prompts(bound):
            logger.info(line)
    return settings


def _about_prompts(bound: BoundRecipe) -> Iterator[str]:
    """What nobody sees from the step tag and the scoring tokens."""
    if bound.answers is not None:
        chats = "one chat for all steps of a solution" if bound.answers.in_one_chat else "one chat per step"
        yield f"The model is asked: {chats}; read where it would answer {' or '.join(map(repr, bound.scoring_texts))}."
    if not bound.step_tags:
        yield (
            f"Recipe {bound.recipe.name} has no step tag: a text by itself (/v1/embeddings, LLM.encode) has no steps, "
            "so its list of scores is empty; send a question and its steps (/v1/prm/score, PRM, PRMClient)."
        )


def pooler_for(model: Any, settings: StepSettings, vllm_config: VllmConfig) -> StepPooler:
    """The pooler of a model that is built. Raises UnsupportedError for layers that it cannot stand beside."""
    from vllm.distributed import get_tensor_model_parallel_rank
    from vllm.tokenizers import cached_tokenizer_from_config

    from vllm_prm.engine.worker.pooler import StepPooler
    from vllm_prm.engine.worker.refusals import refuse_prompts_that_never_start
    from vllm_prm.engine.worker.score_cache import new_score_cache

    refuse_prompts_that_never_start(vllm_config)
    if settings.reads_vocabulary:
        _tell_of_the_whole_head(vllm_config)
    tokenizer = None  # looks at tags that are glued to a word; one rank tells of them
    if get_tensor_model_parallel_rank() == 0 and not vllm_config.model_config.skip_tokenizer_init:
        tokenizer = cached_tokenizer_from_config(vllm_config.model_config)
    return StepPooler(model, settings, tokenizer, new_score_cache(settings, vllm_config))


def _tell_of_the_whole_head(vllm_config: VllmConfig) -> None:
    """What it costs, and where (docs/score-cache.md)."""
    from vllm.logger import init_logger

    from vllm_prm.engine.settings import keeps_scores

    model_config = vllm_config.model_config
    millions = model_config.get_vocab_size() * model_config.get_hidden_size() / 1e6
    logger = init_logger(f"vllm.{__name__}")
    if vllm_config.cache_config.enable_prefix_caching and keeps_scores(model_config):
        logger.info(
            "Scores are probabilities over the whole vocabulary: the output head (%.0f million weights) runs for every "
            "token, so that what is reused has its scores. --no-enable-prefix-caching runs it at the steps only.",
            millions,
        )
    else:
        logger.info(
            "Scores are probabilities over the whole vocabulary: the output head (%.0f million weights) runs whole, at "
            "the steps only, because nothing is reused.",
            millions,
        )
