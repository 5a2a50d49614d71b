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
from vllm_prm.engine.worker.own_heads import ValueHeadWeights, add_value_head
from vllm_prm.errors import RecipeError

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
    if embedding_cls is cls:  # already a pooling model: vLLM leaves it alone
        return _able_to_score_with_its_own_head(cls)
    generation_cls: Any = cls

    class ProcessRewardModel(embedding_cls):
        _has_value_head = False  # nor has a language model inside a multimodal one
        _head_takes: tuple[int, torch.dtype] | None = None  # hidden size and dtype of what a PRM's pooler is given

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if embedding_cls.__new__ is object.__new__:
                return object.__new__(cls)
            if _building_prm or not is_prm(kwargs["vllm_config"].model_config):
                return super().__new__(cls, *args, **kwargs)
            with _inner_models_stay_plain():
                made = super().__new__(cls, *args, **kwargs)
            if not isinstance(made, cls):  # MiniCPM-V and -O: a whole model of the class of their version
                _turn_into_prm(made, kwargs["vllm_config"])
            return made

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
            self._has_value_head = settings.head == "value"
            if settings.head == "own":
                raise RecipeError(
                    f"the recipe reads a head of the model's own, but {generation_cls.__name__} generates text and has "
                    "none; serve the reward model that the recipe was written for, or a recipe for its lm_head"
                )
            with _inner_models_stay_plain():
                generation_cls.__init__(self, vllm_config=vllm_config, prefix=prefix, **kwargs)
            if self._has_value_head:
                add_value_head(self, vllm_config.model_config.get_hidden_size())
            self.pooler = _new_pooler(self, settings, tokenizer, vllm_config)
            self._head_takes = (vllm_config.model_config.get_hidden_size(), vllm_config.model_config.dtype)

        def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
            if not self._generates:
                return super().load_weights(weights)
            if not self._has_value_head:
                return generation_cls.load_weights(self, weights)
            split = ValueHeadWeights(self)
            loaded = generation_cls.load_weights(self, split.others(weights))
            if loaded is None:
                return None
            unused = {name for name, _ in self.named_parameters() if name.startswith("lm_head.")}
            return loaded | split.loaded | unused  # a checkpoint with a value head need not bring its lm_head

        def process_weights_after_loading(self) -> None:
            """vLLM's last word on a loaded model, on every rank: here the output head is checked."""
            after = getattr(super(), "process_weights_after_loading", None)
            if after is not None:
                after()
            if self._head_takes is not None:
                _check_head(self.pooler, *self._head_takes)

    return _named_like(embedding_cls, ProcessRewardModel)


def _turn_into_prm(model: Any, vllm_config: VllmConfig) -> None:
    """A generation model that is already built, with its weights still to come, gets the pooler."""
    refuse_what_cannot_work(vllm_config, type(model))
    settings, tokenizer = _settings(vllm_config)
    if settings.head != "lm_head":
        raise RecipeError(f"{type(model).__name__} is scored by its lm_head only, but the recipe reads {settings.head}")
    model.pooler = _new_pooler(model, settings, tokenizer, vllm_config)
    model.is_pooling_model = True


def _check_head(pooler: Any, hidden_size: int, dtype: torch.dtype) -> None:
    """At start-up, not at the first request; the earlier pipeline stages have no head."""
    from vllm.distributed import get_pp_group

    from vllm_prm.engine.worker.head import ScoringHead

    if get_pp_group().is_last_rank and isinstance(pooler.head, ScoringHead):
        pooler.head.prepare_loaded(hidden_size, dtype)


def _able_to_score_with_its_own_head(cls: Any) -> type:
    """A reward model class whose instances, with a recipe that reads their own head, pool steps as every PRM does."""
    if getattr(cls, "default_tok_pooling_type", None) != "STEP":  # its output is not a row of logits per token
        return cls

    class OwnHeadRewardModel(cls):
        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
            if not is_prm(vllm_config.model_config):
                return
            refuse_what_cannot_work(vllm_config, cls)
            settings, tokenizer = _settings(vllm_config)
            if settings.head != "own":
                raise RecipeError(
                    f"{cls.__name__} has a head of its own, but the recipe reads its {settings.head}; "
                    'give a recipe with "head": "own"'
                )
            self.pooler = _new_pooler(self, settings, tokenizer, vllm_config)

    return _named_like(cls, OwnHeadRewardModel)


def _new_pooler(model: Any, settings: StepSettings, tokenizer: Any, vllm_config: VllmConfig) -> Any:
    from vllm_prm.engine.worker.layers import refuse_prompts_that_never_start
    from vllm_prm.engine.worker.pooler import StepPooler
    from vllm_prm.engine.worker.score_cache import new_score_cache

    refuse_prompts_that_never_start(vllm_config)
    return StepPooler(model, settings, tokenizer, new_score_cache(settings, vllm_config))


def _named_like(vllm_cls: type, ours: type) -> type:
    """Logs and errors keep naming vLLM's class."""
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(ours, name, getattr(vllm_cls, name))
    return ours


def _settings(vllm_config: VllmConfig) -> tuple[StepSettings, Any]:
    """What this engine reads, checked against the served tokenizer (None with --skip-tokenizer-init)."""
    from vllm.logger import init_logger
    from vllm.tokenizers import cached_tokenizer_from_config

    from vllm_prm.engine.vocabulary import probe_complaint, recipe_settings
    from vllm_prm.engine.worker.refusals import cautions

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
    for caution in cautions(vllm_config):
        logger.warning(caution)
    logger.info(
        "Serving a process reward model (recipe %s): step tag %s, scoring tokens %s.",
        recipe.name if recipe else "none, from the pooler config",
        " or ".join(map(str, (tag[0] if len(tag) == 1 else list(tag) for tag in settings.step_tags))),
        list(settings.scoring_ids),
    )
    return settings, tokenizer
