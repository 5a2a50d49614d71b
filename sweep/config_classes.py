"""Which class a model_type's config has: transformers' or vLLM's, or a plain one that carries any field.

Knows model types, not architectures' entries. A model_type for which neither library has a class gets the plain one,
which is registered with transformers, since vLLM reads config.json through it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def config_class(model_type: str) -> Any:
    """The class of transformers or vLLM; None if neither has one, and a plain class is registered then."""
    from transformers import CONFIG_MAPPING, AutoConfig
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    if model_type in _CONFIG_REGISTRY:
        return _CONFIG_REGISTRY[model_type]
    if model_type in CONFIG_MAPPING:
        cls = CONFIG_MAPPING[model_type]
        return None if issubclass(cls, _plain_class()) else cls
    AutoConfig.register(model_type, type("Config", (_plain_class(),), {"model_type": model_type}))
    return None


def listed_model_type(architecture: str) -> str:
    """The model_type whose models transformers lists `architecture` among; "" if it lists it nowhere."""
    from transformers.models.auto import modeling_auto

    for name in sorted(dir(modeling_auto)):
        if name.endswith("_MAPPING_NAMES"):
            for model_type, classes in getattr(modeling_auto, name).items():
                if architecture in ((classes,) if isinstance(classes, str) else classes):
                    return model_type
    return ""


@lru_cache
def _plain_class() -> Any:
    """A config class that takes any field. A dict with a model_type among the fields becomes a config in turn."""
    from transformers import AutoConfig, PreTrainedConfig

    class Fields(dict):
        def __getattr__(self, name: str) -> Any:
            if name not in self:
                raise AttributeError(name)
            return self[name]

    def parsed(value: Any) -> Any:
        if isinstance(value, list):
            return [parsed(item) for item in value]
        if isinstance(value, dict) and "model_type" in value:
            config_class(value["model_type"])
            return AutoConfig.for_model(**value)
        if isinstance(value, dict) and "no_op" in str(value):  # DeciLM's blocks, whose fields vLLM reads as attributes
            return Fields({name: parsed(item) for name, item in value.items()})
        return value

    class Plain(PreTrainedConfig):
        def __post_init__(self, **fields: Any) -> None:
            super().__post_init__(**{name: parsed(value) for name, value in fields.items()})

        def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
            for name in ("text_config", "llm_config", "language_config"):
                if isinstance(getattr(self, name, None), PreTrainedConfig):
                    return getattr(self, name)
            return self

    return Plain
