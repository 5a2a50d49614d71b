"""The scoring tokens' log-probabilities from what a server says of a prompt's next token.

Invariant: never a guess. A server that gives only its likeliest tokens may leave a scoring token out. Such a token is
at most as likely as the last one given, and a step is scored only if this bound leaves no doubt about its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from vllm_prm.errors import EngineError
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.scores import weighted_scores

TOKEN_ID = "token_id:"  # before the id that vLLM writes instead of a text (return_tokens_as_token_ids)
_NEVER = -1e4  # the logarithm of a probability that is 0 in float64
_DOUBT = 1e-5  # of a step score: the difference that this project allows between two ways to the same score


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
    over_all = recipe.recipe.reads_vocabulary
    if over_all and (found := max((values[name] for name in names if name in values), default=0.0)) > _DOUBT:
        raise EngineError(
            f"the server gave {found:.3f} as the logarithm of a probability, so these are logits, of which nobody can "
            "tell a share of the whole vocabulary; start it with --logprobs-mode raw_logprobs"
        )
    missing = [name for name in names if name not in values]
    if not missing:
        return np.array([values[name] for name in names], dtype=np.float32)
    if asked_by_id or not values:
        raise EngineError(
            f"the server gave no log-probability for the scoring tokens {missing}, only for {sorted(values)[:20]}"
        )
    bound = min(values.values())
    row = np.array([values.get(name, bound) for name in names], dtype=np.float32)
    is_hopeless = (
        len(missing) == len(names) and not over_all
    )  # of two tokens that are both rare one may be the likelier
    if is_hopeless or _doubt(row, [names.index(name) for name in missing], recipe) > _DOUBT:
        raise EngineError(
            f"the scoring tokens {missing} are not among the {len(values)} likeliest that this server gives, so their "
            f"log-probability is only known to be {bound:.2f} at most. Use a server that takes logprob_token_ids "
            "(vLLM), or one that gives more (vLLM: --max-logprobs)"
        )
    return row


def _doubt(row: np.ndarray, missing: Sequence[int], recipe: BoundRecipe) -> float:
    """How far the score may be from that of the row, in which the missing columns stand at their bound.

    A score rises with each token of high weight and falls with each of low weight, so its extremes are where every
    missing token is at its bound or has no probability at all.
    """
    corners = []
    for absent in product((False, True), repeat=len(missing)):
        corner = row.astype(np.float64)
        corner[[column for column, is_absent in zip(missing, absent, strict=True) if is_absent]] = _NEVER
        corners.append(corner)
    scores = weighted_scores(np.stack(corners), recipe.recipe)
    return float(np.abs(scores - scores[0]).max())
