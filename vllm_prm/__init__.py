"""Process reward models on vLLM: serve any causal LM as one, score reasoning step by step.

Importing this package imports neither torch nor vLLM: vLLM finds the plugin by its entry point, and every public name
is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm_prm.aggregate import best_of_n, majority, weighted_majority
    from vllm_prm.client import AsyncPRMClient, PRMClient
    from vllm_prm.engine.serve.offline import PRM
    from vllm_prm.errors import (
        BatchError,
        EngineError,
        PRMError,
        RecipeError,
        RequestError,
        ScorerError,
        UnreachableError,
        UnsupportedError,
    )
    from vllm_prm.prompts import split_steps
    from vllm_prm.recipes import Probe, Recipe, ScoringToken, StepTag, find_recipe, load_recipe, recipe_names
    from vllm_prm.report import ReportRow, write_report
    from vllm_prm.scorer import Scorer
    from vllm_prm.scores import Ranking, StepScores

    __version__: str

_HOMES = {
    "vllm_prm.aggregate": ("best_of_n", "majority", "weighted_majority"),
    "vllm_prm.client": ("AsyncPRMClient", "PRMClient"),
    "vllm_prm.engine.serve.offline": ("PRM",),
    "vllm_prm.errors": (
        "BatchError",
        "EngineError",
        "PRMError",
        "RecipeError",
        "RequestError",
        "ScorerError",
        "UnreachableError",
        "UnsupportedError",
    ),
    "vllm_prm.prompts": ("split_steps",),
    "vllm_prm.recipes": ("Probe", "Recipe", "ScoringToken", "StepTag", "find_recipe", "load_recipe", "recipe_names"),
    "vllm_prm.report": ("ReportRow", "write_report"),
    "vllm_prm.scores": ("Ranking", "StepScores"),
    "vllm_prm.scorer": ("Scorer",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncPRMClient",
    "BatchError",
    "EngineError",
    "PRM",
    "PRMClient",
    "PRMError",
    "Probe",
    "Ranking",
    "Recipe",
    "RecipeError",
    "ReportRow",
    "RequestError",
    "Scorer",
    "ScorerError",
    "ScoringToken",
    "StepScores",
    "StepTag",
    "UnreachableError",
    "UnsupportedError",
    "__version__",
    "best_of_n",
    "find_recipe",
    "load_recipe",
    "majority",
    "recipe_names",
    "split_steps",
    "weighted_majority",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("vllm-prm")
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
