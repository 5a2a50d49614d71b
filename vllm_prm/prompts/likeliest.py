"""A step's logits from the likeliest next tokens alone, where a server or an engine gives no others.

Invariant: never a guess. Such an answer may leave a scoring token out. That token is at most as likely as the last one
given, and a step is scored only if this bound leaves no doubt about its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeVar

import numpy as np

from vllm_prm.errors import EngineError
from vllm_prm.recipes import Recipe
from vllm_prm.scores import weighted_scores

_NEVER = -1e4  # the logarithm of a probability that is 0 in float64
_DOUBT = 1e-5  # of a step score: the difference that this project allows between two ways to the same score

_Token = TypeVar("_Token", int, str)


def likeliest_row(values: Mapping[_Token, float], scoring: Sequence[_Token], recipe: Recipe, help_: str) -> np.ndarray:
    """float32 [scoring tokens]: their logits or log-probabilities; those left out that cannot matter, at their bound.

    values: of the likeliest tokens, not empty. scoring: the scoring tokens, as values names them. help_: what the user
    can do where one that could matter was left out, which raises EngineError.
    """
    missing = [token for token in scoring if token not in values]
    bound = min(values.values())
    row = np.array([values.get(token, bound) for token in scoring], dtype=np.float32)
    # Of two tokens that are both rare one may be the likelier; of a share of all tokens the bound itself may be enough.
    is_hopeless = len(missing) == len(scoring) and recipe.activation != "full_softmax"
    if missing and (is_hopeless or _doubt(row, list(map(scoring.index, missing)), recipe) > _DOUBT):
        raise EngineError(
            f"the scoring tokens {missing} are not among the {len(values)} likeliest that are given, so their "
            f"log-probability is only known to be {bound:.2f} at most. {help_}"
        )
    return row


def _doubt(row: np.ndarray, missing: Sequence[int], recipe: Recipe) -> float:
    """How far the score may be from that of the row, in which the missing columns stand at their bound.

    A score rises with each token of high weight and falls with each of low weight, so its extremes are where every
    missing token is at its bound or has no probability at all.
    """
    corners = []
    for absent in product((False, True), repeat=len(missing)):
        corner = row.astype(np.float64)
        corner[[column for column, is_absent in zip(missing, absent, strict=True) if is_absent]] = _NEVER
        corners.append(corner)
    scores = weighted_scores(np.stack(corners), recipe)
    return float(np.abs(scores - scores[0]).max())
