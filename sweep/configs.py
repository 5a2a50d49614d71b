"""A small config.json for any architecture.

Where transformers or vLLM has the config class, an object of that class is made, with SMALL sizes in whatever fields
it has. Where neither has one (vLLM then expects the checkpoint's own code), the entry lists the fields.
"""

from __future__ import annotations

import inspect
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweep.architectures import entry
from sweep.config_classes import config_class, listed_model_type
from sweep.sizes import SMALL
from sweep.tokenizer import save_tokenizer

BOOKKEEPING = ("_name_or_path", "output_attentions", "transformers_version")  # not every class takes these back


def write(architecture: str, folder: str) -> None:
    """Write config.json and a tokenizer for `architecture`. Raises LookupError if its config class is not known."""
    config = small_config(architecture)
    (Path(folder) / "config.json").write_text(json.dumps(config))
    save_tokenizer(folder)


def small_config(architecture: str) -> dict[str, Any]:
    """The content of config.json. Raises LookupError if no config class is known for `architecture`."""
    small = entry(architecture)
    model_type = small.model_type or listed_model_type(architecture)
    if not model_type:
        raise LookupError(f"no config class is known for {architecture}; list its fields in sweep/")
    cls = None if small.whole else config_class(model_type)
    fields = small.fields if small.whole else {name: _expanded(value) for name, value in small.fields.items()}
    config = fields if cls is None else _filled(cls, fields)
    return {**config, "architectures": [architecture], "model_type": model_type, "dtype": small.dtype}


def _expanded(value: Any) -> Any:
    """A part given as {"model_type": ..., changes} becomes the small config of that type, with the changes."""
    if not isinstance(value, dict) or "model_type" not in value:
        return value
    model_type = value["model_type"]
    cls = config_class(model_type)
    changes = {name: item for name, item in value.items() if name != "model_type"}
    return {**(changes if cls is None else _filled(cls, changes)), "model_type": model_type}


def _filled(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The config of `cls` as a dict, with SMALL sizes in its fields and in those of the configs inside it."""
    known = set(getattr(cls, "__dataclass_fields__", ())) | set(inspect.signature(cls.__init__).parameters)
    known |= set(getattr(cls, "attribute_map", {}))
    small = {name: size for name, size in SMALL.items() if name in known}
    if "kv_lora_rank" in known:  # there head_dim is an alias of qk_rope_head_dim
        small.pop("head_dim", None)
    parts = _small_parts(cls, fields)
    for name, value in fields.items():  # a dict adds to a part, anything else replaces it
        parts[name] = {**parts[name], **value} if isinstance(value, dict) and name in parts else value
    return cls(**{**small, **parts}).to_dict()


def _small_parts(cls: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The configs inside a config of `cls`, filled like it; `fields` may hold changes to each."""
    from transformers import PreTrainedConfig

    parts = {}
    for name, part in vars(_default(cls)).items():
        if isinstance(part, PreTrainedConfig) and name in {*cls.sub_configs, "text_config", "llm_config"}:
            changes = fields.get(name)
            changes = changes if isinstance(changes, dict) and "model_type" not in changes else {}
            filled = {**_filled(type(part), changes), "model_type": part.model_type}
            parts[name] = {key: value for key, value in filled.items() if key not in BOOKKEEPING}
    return parts


@lru_cache
def _default(cls: Any) -> Any:
    return cls()
