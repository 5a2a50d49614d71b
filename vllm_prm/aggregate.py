"""Step scores -> one number per solution, or its first error; solutions -> one answer.

The five aggregations are those of the field: min (Math-Shepherd, https://arxiv.org/abs/2312.08935), product (Let's
Verify Step by Step, https://arxiv.org/abs/2305.20050), mean, last, and the sum of logarithms, which orders as product
does but does not vanish over many steps. Nothing here knows where scores come from.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable, Sequence
from typing import get_args

from vllm_prm.errors import RequestError
from vllm_prm.recipes.types import Aggregation

AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)

_LEAST = sys.float_info.min  # 2.2e-308, the least normal double: the log of a score of 0 stays finite, as JSON requires


def aggregate(step_scores: Sequence[float], aggregation: str = "min") -> float:
    """One number for a solution: its step scores' min, product, mean, last, or sum_log (sum of natural logarithms).

    Raises RequestError for no scores, a score that is not a finite number (or is negative, for sum_log), and an
    unknown name.
    """
    check_aggregation(aggregation)
    scores = _finite(step_scores, "step score")
    if aggregation == "min":
        return min(scores)
    if aggregation == "product":
        return math.prod(scores)
    if aggregation == "mean":
        return math.fsum(scores) / len(scores)
    if aggregation == "last":
        return scores[-1]
    if min(scores) < 0:
        raise RequestError(f"sum_log takes the logarithm of step scores, and {min(scores)} is below 0; use another one")
    return math.fsum(math.log(max(score, _LEAST)) for score in scores)


def check_aggregation(aggregation: str) -> None:
    """Raise RequestError unless this is one of AGGREGATIONS."""
    if aggregation not in AGGREGATIONS:
        raise RequestError(f"no aggregation {aggregation!r}; expected one of {', '.join(map(repr, AGGREGATIONS))}")


def first_below(step_scores: Sequence[float], threshold: float) -> int | None:
    """Index, from 0, of the first step that scores below the threshold; None if there is none."""
    return next((i for i, score in enumerate(step_scores) if score < threshold), None)


def best_of_n(scores: Sequence[float]) -> int:
    """Index of the highest score, the first one among equals. scores: one per candidate, as `aggregate` gives them."""
    finite = _finite(scores, "score")
    return max(range(len(finite)), key=finite.__getitem__)


def majority(answers: Sequence[str | None], key: Callable[[str], Hashable] | None = None) -> str | None:
    """The final answer that most candidates give, as the first of them writes it; the earlier one in a tie.

    None among `answers` is a candidate without an answer and casts no vote; None is returned if no one votes.
    Answers are the same if they are equal up to white space, or if `key` makes the same of them.
    Raises RequestError for no candidates and an answer that is no string.
    """
    return _vote(answers, [1.0] * len(answers), key)


def weighted_majority(
    answers: Sequence[str | None], scores: Sequence[float], key: Callable[[str], Hashable] | None = None
) -> str | None:
    """As `majority`, where each candidate votes with its score (one per candidate, finite, 0 or more).

    sum_log scores are negative, so that more votes would count less: they are refused.
    """
    if len(answers) != len(scores):
        raise RequestError(f"{len(answers)} answers and {len(scores)} scores; expected one score for each answer")
    weights = _finite(scores, "score")
    if min(weights) < 0:
        raise RequestError(
            f"a weighted vote needs scores of 0 or more, found {min(weights)}; "
            "aggregate with min, product, mean or last instead of sum_log"
        )
    return _vote(answers, weights, key)


def same_but_for_space(answer: str) -> str:
    """The answer with white space trimmed, and each run inside it made one blank: the default key of a vote."""
    return " ".join(answer.split())


def _vote(answers: Sequence[str | None], weights: Sequence[float], key: Callable[[str], Hashable] | None) -> str | None:
    if not answers:
        raise RequestError("no answers to vote on; expected one for each candidate")
    key = key or same_but_for_space
    written: dict[Hashable, str] = {}
    votes: dict[Hashable, list[float]] = {}
    for i, (answer, weight) in enumerate(zip(answers, weights, strict=True)):
        if answer is None:
            continue
        if not isinstance(answer, str):
            raise RequestError(f"answer {i} is a {type(answer).__name__} ({answer!r}); expected a string, or None")
        group = key(answer)
        written.setdefault(group, answer)
        votes.setdefault(group, []).append(weight)
    if not votes:
        return None
    return written[max(votes, key=lambda group: math.fsum(votes[group]))]


def _finite(scores: Sequence[float], name: str) -> list[float]:
    """The scores as Python floats. name: what one of them is called in messages.

    Raises RequestError for none, and for one that is not a finite number.
    """
    if isinstance(scores, str) or len(scores) == 0:
        raise RequestError(f"no {name}s to aggregate ({scores!r}); expected one number or more")
    for i, score in enumerate(scores):
        try:
            finite = math.isfinite(score)
        except TypeError:
            finite = False
        if not finite:
            raise RequestError(f"{name} {i} is {score!r}; expected a finite number")
    return [float(score) for score in scores]
