"""The class that vLLM is to load a PRM's checkpoint as, where its config.json names one that vLLM does not know.

A recipe may say it (`architecture`). A checkpoint with a linear head names a class like Qwen2ForTokenClassification,
which vLLM serves by converting Qwen2ForCausalLM, but only where it is asked for classes of tokens. A PRM is an
embedding engine, so the name is turned here, by vLLM's own table of suffixes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vllm_prm.engine.settings import OVERRIDE
from vllm_prm.recipes import load_recipe

if TYPE_CHECKING:
    from vllm.engine.arg_utils import EngineArgs


def name_architecture(engine_args: EngineArgs) -> None:
    """Put the class into the options of an engine that has a recipe, unless its user names one."""
    overrides = engine_args.hf_overrides
    if not isinstance(overrides, dict) or OVERRIDE not in overrides or "architectures" in overrides:
        return
    recipe = load_recipe(overrides[OVERRIDE])
    name = recipe.architecture
    if name is None and recipe.head == "linear":
        name = generation_class(_named_by_the_checkpoint(engine_args))
    if name is not None:
        engine_args.hf_overrides = {**overrides, "architectures": [name]}


def generation_class(names: Iterable[str]) -> str | None:
    """The generation class that vLLM converts for the first of these it can; None where it knows one, or can none."""
    from vllm.config.model import iter_architecture_defaults, try_match_architecture_defaults
    from vllm.model_executor.models.registry import ModelRegistry

    known = set(ModelRegistry.get_supported_archs())
    for name in names:
        if name in known:
            return None
        match = try_match_architecture_defaults(name)
        if match is None:
            continue
        suffix, _ = match
        for other, (runner, _) in iter_architecture_defaults():
            if runner == "generate" and (base := name.removesuffix(suffix) + other) in known:
                return base
    return None


def _named_by_the_checkpoint(engine_args: EngineArgs) -> list[str]:
    """As its config.json has them; empty where it cannot be read."""
    from transformers import PretrainedConfig

    try:
        config, _ = PretrainedConfig.get_config_dict(
            engine_args.hf_config_path or engine_args.model, revision=engine_args.revision
        )
    except Exception:  # noqa: BLE001 - vLLM reads it next, and says what is wrong
        return []
    return list(config.get("architectures") or [])
