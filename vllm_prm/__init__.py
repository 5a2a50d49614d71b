"""Serve any causal LM as a process reward model, through vLLM.

Importing this package imports neither torch nor vLLM: vLLM finds the plugin by its entry point.
"""

from importlib.metadata import version

from vllm_prm.errors import PRMError, RecipeError, RequestError, UnsupportedError
from vllm_prm.recipes import Probe, Recipe, ScoringToken, StepTag, find_recipe, load_recipe

__version__ = version("vllm-prm")

__all__ = [
    "PRMError",
    "Probe",
    "Recipe",
    "RecipeError",
    "RequestError",
    "ScoringToken",
    "StepTag",
    "UnsupportedError",
    "__version__",
    "find_recipe",
    "load_recipe",
]
