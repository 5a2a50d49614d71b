"""The scoring tokens' log-probabilities from what a server says of a prompt's next token: all of them, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vllm_prm.errors import EngineError
from vllm_prm.prompts.likeliest import likeliest_row
from vllm_prm.recipes.binding import BoundRecipe

TOKEN_ID = "token_id:"  # before the id that vLLM writes instead of a text (return_tokens_as_token_ids)
_HELP = "Use a server that takes logprob_token_ids (vLLM), or one that gives more (vLLM: --max-logprobs)"


def names_of(recipe: BoundRecipe, by_id: bool) -> list[str]:
    """How the server names each scoring token. Raises EngineError if two of them have the same text."""
    if by_id:
        return [f"{TOKEN_ID}{token_id}" for token_id in recipe.scoring_ids]
    names = [str(recipe.tokenizer.decode([token_id])) for token_id in recipe.scoring_ids]
    if len(set(names)) != len(names):
        raise EngineError(
            f"the server names tokens by their text, and the scoring tokens of recipe {recipe.recipe.name!r} are "
            f"{names}, which cannot be told apart; use a server that takes logprob_token_ids (vLLM)"
        )
    return names


def scoring_row(
    logprobs: Mapping[str, float | None], names: Sequence[str], recipe: BoundRecipe, asked_by_id: bool
) -> np.ndarray:
    """float32 [scoring tokens], log-probabilities; those that are missing and cannot matter stand at their bound.

    asked_by_id: the server was asked for just these tokens. Raises EngineError where a missing one could matter.
    """
    values = {name: value for name, value in logprobs.items() if value is not None}
    missing = [name for name in names if name not in values]
    if not missing:
        return np.array([values[name] for name in names], dtype=np.float32)
    if asked_by_id or not values:
        raise EngineError(
            f"the server gave no log-probability for the scoring tokens {missing}, only for {sorted(values)[:20]}"
        )
    return likeliest_row(values, names, recipe.recipe, _HELP)
