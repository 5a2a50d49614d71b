"""Recipes: what makes a checkpoint a process reward model.

types.py    what a recipe is, and what is refused      prompt.py   how its prompts are written
tokens.py   the tokens it names                        answers.py  where a judge answers, and by which token
builtin/    the known ones, with their sources         loading.py  from names, files and JSON
binding.py  a recipe against one tokenizer             pieces.py   how vocabularies spell tokens

Nothing here knows torch or vLLM.
"""

from vllm_prm.recipes.binding import BoundRecipe, bind
from vllm_prm.recipes.loading import RECIPE_FILE, find_recipe, load_recipe, recipe_for, recipe_names
from vllm_prm.recipes.prompt import PromptFormat
from vllm_prm.recipes.tokens import Probe, ScoringToken, StepTag
from vllm_prm.recipes.types import Recipe

__all__ = [
    "RECIPE_FILE",
    "BoundRecipe",
    "Probe",
    "PromptFormat",
    "Recipe",
    "ScoringToken",
    "StepTag",
    "bind",
    "find_recipe",
    "load_recipe",
    "recipe_for",
    "recipe_names",
]
