"""The model seam: `as_embedding_model`, which vLLM's loader calls to turn a generation class into a pooling one.

vLLM's own adapter throws the output head away; a PRM needs it. The class returned here keeps both sides: an
instance in a PRM engine is the plain generation model with its live head and a StepPooler, any other instance is
vLLM's embedding model, untouched. That is decided per instance because the loader caches the class by model,
runner and convert type, and not by the pooler config or the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.settings import StepSettings, flag_settings, is_prm, recipe_of, refuse_what_cannot_work

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig

_building_prm = False


@contextmanager
def _inner_models_stay_plain() -> Iterator[None]:
    """A multimodal model builds its language model through the same loader; that one needs no pooler."""
    global _building_prm
    _building_prm = True
    try:
        yield
    finally:
        _building_prm = False


def as_process_reward_model(original: Callable[[type], type], cls: type) -> type:
    """`original(cls)`, vLLM's embedding model, able to be a PRM where the engine is one."""
    embedding_cls: Any = original(cls)
    if embedding_cls is cls:  # already a pooling model: vLLM left it alone, so do we
        return cls
    generation_cls: Any = cls

    class ProcessRewardModel(embedding_cls):
        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
            if _building_prm:
                self._generates = True
                generation_cls.__init__(self, vllm_config=vllm_config, prefix=prefix, **kwargs)
                return
            self._generates = is_prm(vllm_config.model_config)
            if not self._generates:
                super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
                return
            refuse_what_cannot_work(vllm_config, generation_cls)
            settings, tokenizer = _settings(vllm_config)
            with _inner_models_stay_plain():
                generation_cls.__init__(self, vllm_config=vllm_config, prefix=prefix, **kwargs)
            from vllm_prm.engine.pooler import StepPooler
            from vllm_prm.engine.score_cache import new_score_cache

            self.pooler = StepPooler(self, settings, tokenizer, new_score_cache(settings, vllm_config))

        def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
            if self._generates:
                return generation_cls.load_weights(self, weights)
            return super().load_weights(weights)

    for name in ("__name__", "__qualname__", "__module__"):  # logs and errors keep naming vLLM's class
        setattr(ProcessRewardModel, name, getattr(embedding_cls, name))
    return ProcessRewardModel


def _settings(vllm_config: VllmConfig) -> tuple[StepSettings, Any]:
    """What this engine reads, checked against the served tokenizer (None with --skip-tokenizer-init)."""
    from vllm.logger import init_logger
    from vllm.tokenizers import cached_tokenizer_from_config

    from vllm_prm.engine.vocabulary import probe_complaint, recipe_settings
    from vllm_prm.errors import RecipeError

    logger = init_logger(f"vllm.{__name__}")
    model_config = vllm_config.model_config
    tokenizer = None if model_config.skip_tokenizer_init else cached_tokenizer_from_config(model_config)
    recipe = recipe_of(model_config)
    if recipe is None:
        settings = flag_settings(model_config)
    elif tokenizer is None:
        raise RecipeError(
            f"recipe {recipe.name!r} names its tokens as vocabulary pieces, which need a tokenizer; drop "
            "--skip-tokenizer-init, or give ids by --pooler-config instead of a recipe"
        )
    else:
        settings = recipe_settings(recipe, tokenizer, model_config)
        if complaint := probe_complaint(recipe, tokenizer):
            logger.warning(complaint)
    logger.info(
        "Serving a process reward model (recipe %s): step tag %s, scoring tokens %s.",
        recipe.name if recipe else "none, from the pooler config",
        " or ".join(map(str, (tag[0] if len(tag) == 1 else list(tag) for tag in settings.step_tags))),
        list(settings.scoring_ids),
    )
    return settings, tokenizer
