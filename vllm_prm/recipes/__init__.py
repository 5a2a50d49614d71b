"""Recipes: what makes a checkpoint a process reward model.

`types` says what a recipe is, `prompt` how its prompts are written, `builtin` holds the known ones with their sources,
`loading` finds and reads them.
Nothing here knows torch, vLLM or a tokenizer; `engine.vocabulary` resolves pieces against the served one.
"""

from vllm_prm.recipes.loading import RECIPE_FILE, find_recipe, load_recipe, recipe_names
from vllm_prm.recipes.prompt import PromptFormat
from vllm_prm.recipes.types import Probe, Recipe, ScoringToken, StepTag

__all__ = [
    "RECIPE_FILE",
    "Probe",
    "PromptFormat",
    "Recipe",
    "ScoringToken",
    "StepTag",
    "find_recipe",
    "load_recipe",
    "recipe_names",
]
