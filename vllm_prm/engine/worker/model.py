"""The model seam: `as_embedding_model`, which vLLM's loader calls to turn a generation class into a pooling one.

vLLM's own adapter throws the output head away; a PRM needs it. The class returned here keeps both sides: an
instance in a PRM engine is the plain generation model with its live head and a StepPooler (or, if the recipe reads a
linear head, vLLM's embedding model with that layer and a StepPooler), any other instance is vLLM's embedding model,
untouched. That is decided per instance because the loader caches the class by model,
runner and convert type, and not by the pooler config or the recipe.

This module is loaded in every vLLM process, so what it needs of vLLM and torch is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.settings import is_prm
from vllm_prm.engine.worker.build import pooler_for, settings_for

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

    class ProcessRewardModel(_PRMSide, embedding_cls):
        _embedding_cls = embedding_cls
        _generation_cls = cls

    return _named_like(embedding_cls, ProcessRewardModel)


class _PRMSide:
    """First base of a converted class: makes an instance a generation model with a pooler where the engine is a PRM."""

    _embedding_cls: Any
    _generation_cls: Any
    _generates = False
    _head_input: tuple[int, torch.dtype] | None = None  # hidden size and dtype of what a PRM's pooler is given

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls._embedding_cls.__new__ is object.__new__:
            return object.__new__(cls)
        if _building_prm or not is_prm(kwargs["vllm_config"].model_config):
            return super().__new__(cls, *args, **kwargs)
        with _inner_models_stay_plain():
            model: Any = super().__new__(cls, *args, **kwargs)
        if not isinstance(model, cls):  # MiniCPM-V and -O: a whole model of the class of their version
            _turn_into_prm(model, kwargs["vllm_config"])
        return model

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
        if _building_prm:
            self._generates = True
            self._generation_cls.__init__(self, vllm_config=vllm_config, prefix=prefix, **kwargs)
        elif is_prm(vllm_config.model_config):
            self._generates = True
            self._build_prm(vllm_config, prefix, kwargs)
        else:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)  # type: ignore[call-arg]

    def _build_prm(self, vllm_config: VllmConfig, prefix: str, kwargs: dict[str, Any]) -> None:
        from vllm_prm.engine.worker.own_heads import add_linear_layer

        settings = settings_for(vllm_config, self._generation_cls, heads=("lm_head", "linear"))
        hidden_size = vllm_config.model_config.get_hidden_size()
        with _inner_models_stay_plain():
            if settings.head == "linear":
                self._generates = False
                super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)  # type: ignore[call-arg]
                add_linear_layer(self, hidden_size, len(settings.scoring_ids), settings.head_names)
            else:
                self._generation_cls.__init__(self, vllm_config=vllm_config, prefix=prefix, **kwargs)
        self.pooler = pooler_for(self, settings, vllm_config)
        self._head_input = (hidden_size, vllm_config.model_config.dtype)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
        if self._generates:
            return self._generation_cls.load_weights(self, weights)
        layer = getattr(self, "prm_head", None)
        if layer is None:
            return super().load_weights(weights)  # type: ignore[misc]
        return layer.load(weights, super().load_weights, "prm_head")  # type: ignore[misc]

    def process_weights_after_loading(self) -> None:
        """vLLM's last word on a loaded model, on every rank: here the output head is checked."""
        after_loading = getattr(super(), "process_weights_after_loading", None)
        if after_loading is not None:
            after_loading()
        if self._head_input is not None:
            _check_head(self.pooler, *self._head_input)


def _turn_into_prm(model: Any, vllm_config: VllmConfig) -> None:
    """A generation model that is already built, with its weights still to come, gets the pooler."""
    settings = settings_for(vllm_config, type(model), heads=("lm_head",))
    model.pooler = pooler_for(model, settings, vllm_config)
    model.is_pooling_model = True


def _check_head(pooler: Any, hidden_size: int, dtype: torch.dtype) -> None:
    """At start-up, not at the first request; the earlier pipeline stages have no head."""
    from vllm.distributed import get_pp_group

    if get_pp_group().is_last_rank:
        pooler.head.prepare_loaded(hidden_size, dtype)


def _able_to_score_with_its_own_head(cls: Any) -> type:
    """A reward model class whose instances, with a recipe that reads their own head, pool steps as every PRM does."""
    if getattr(cls, "default_tok_pooling_type", None) != "STEP":  # its output is not a row of logits per token
        return cls

    class OwnHeadRewardModel(cls):
        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any) -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
            if is_prm(vllm_config.model_config):
                settings = settings_for(vllm_config, cls, heads=("own",))
                self.pooler = pooler_for(self, settings, vllm_config)

    return _named_like(cls, OwnHeadRewardModel)


def _named_like(vllm_cls: type, our_cls: type) -> type:
    """Logs and errors keep naming vLLM's class."""
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(our_cls, name, getattr(vllm_cls, name))
    return our_cls
