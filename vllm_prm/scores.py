"""What scoring gives back: StepScores for one solution, Ranking for several of one question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vllm_prm.aggregate import aggregate, best_of_n, first_below
from vllm_prm.errors import EngineError, RequestError
from vllm_prm.recipes.types import FIRST_ERROR_THRESHOLD, Recipe

__all__ = ["FIRST_ERROR_THRESHOLD", "Ranking", "StepScores", "logits_matrix", "probabilities", "weighted_scores"]


_ROUNDING = 1e-3  # of shares of a vocabulary that were made of float16 logits, whose sum may be a little above 1


@dataclass(frozen=True)
class StepScores:
    """The scores of one solution's steps.

    step_scores: [steps], each the weighted sum of a step's probabilities, in [0, 1] (in [-1, 1] where a weight of the
        recipe is negative).
    probabilities, logits: [steps, columns], one column per scoring token (or class), named by `labels`. Empty where
        only step scores were asked for. Of a recipe that reads the whole vocabulary (`Recipe.reads_vocabulary`) the
        logits are the logarithms of shares of it.
    answer_mass: [steps], how much of the whole vocabulary's probability the scoring tokens have together; empty where
        the recipe does not ask for it. Below one half the model rather says something else, and its scores mean little.
    aggregation: what `aggregate()` uses by default, the recipe's own.
    threshold: what `first_error()` uses by default, the recipe's own.
    num_prompt_tokens, num_cached_tokens: tokens of all prompts that scoring took; how many came from the prefix cache.
    """

    step_scores: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...] = ()
    logits: tuple[tuple[float, ...], ...] = ()
    labels: tuple[str, ...] = ()
    aggregation: str = "min"
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    threshold: float = FIRST_ERROR_THRESHOLD
    answer_mass: tuple[float, ...] = ()

    @classmethod
    def from_logits(
        cls, logits: np.ndarray, recipe: Recipe, num_prompt_tokens: int = 0, num_cached_tokens: int = 0
    ) -> StepScores:
        """Logits [steps, scoring tokens] -> scores by the recipe's activation and weights, in float64.

        Raises RequestError for no steps, EngineError if the logits have another shape or are not finite.
        """
        matrix = np.asarray(logits, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(recipe.weights):
            raise EngineError(
                f"logits of shape {list(matrix.shape)} do not fit recipe {recipe.name!r}; expected "
                f"[steps, {len(recipe.weights)}]. Is the recipe the one the model is served with?"
            )
        if not len(matrix):
            raise RequestError("no step was scored; expected one step or more")
        if not np.isfinite(matrix).all():
            bad = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
            raise EngineError(
                f"the logits of step {bad} (counting from 0) are not all finite: {matrix[bad].tolist()}; "
                "the checkpoint may be damaged, or its dtype too narrow (try --dtype float32)"
            )
        step_probabilities = probabilities(matrix, recipe)
        return cls(
            step_scores=tuple(_weighted(step_probabilities, recipe).tolist()),
            probabilities=_rows(step_probabilities),
            logits=_rows(matrix),
            labels=recipe.labels,
            aggregation=recipe.aggregation,
            num_prompt_tokens=num_prompt_tokens,
            num_cached_tokens=num_cached_tokens,
            threshold=recipe.threshold,
            answer_mass=_answer_mass(matrix, recipe) if recipe.answer_mass else (),
        )

    def __len__(self) -> int:
        return len(self.step_scores)

    def aggregate(self, aggregation: str | None = None) -> float:
        """One number for the solution: see `vllm_prm.aggregate`. None: the recipe's own aggregation."""
        return aggregate(self.step_scores, aggregation or self.aggregation)

    def first_error(self, threshold: float | None = None) -> int | None:
        """Index, from 0, of the first step that scores below the threshold (None: the recipe's); None without one."""
        return first_below(self.step_scores, self.threshold if threshold is None else threshold)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: every field, plus `score` (the aggregate) and `first_error`."""
        return {**asdict(self), "score": self.aggregate(), "first_error": self.first_error()}

    def __repr__(self) -> str:
        return (
            f"StepScores({_shown(self.step_scores)}, {self.aggregation}={self.aggregate():.4f}, "
            f"first_error={self.first_error()})"
            if self.step_scores
            else "StepScores([])"
        )


@dataclass(frozen=True)
class Ranking:
    """Candidate solutions of one question, compared.

    order: indices of the candidates, best first; equal ones in the order given.
    scores: the aggregate of each candidate, in the order given.
    results: the step scores of each candidate, in the order given.
    aggregation: what made the scores.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    results: tuple[StepScores, ...]
    aggregation: str

    @classmethod
    def of(cls, results: Sequence[StepScores], aggregation: str | None = None) -> Ranking:
        """Rank by an aggregation; None: the results' own. Raises RequestError for no candidates."""
        if not results:
            raise RequestError("no candidates to rank; expected one solution or more")
        aggregation = aggregation or results[0].aggregation
        scores = tuple(result.aggregate(aggregation) for result in results)
        order = tuple(sorted(range(len(scores)), key=lambda i: -scores[i]))  # a stable sort: ties keep their order
        return cls(order, scores, tuple(results), aggregation)

    @property
    def best(self) -> int:
        """Index of the best candidate."""
        return best_of_n(self.scores)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: best, order, scores, aggregation, and per candidate what `StepScores.to_dict` gives."""
        return {
            "best": self.best,
            "order": list(self.order),
            "scores": list(self.scores),
            "aggregation": self.aggregation,
            "results": [result.to_dict() for result in self.results],
        }

    def __repr__(self) -> str:
        return f"Ranking(best={self.best}, order={list(self.order)}, {self.aggregation}={_shown(self.scores)})"


def logits_matrix(values: Any, width: int, rows: int | None = None) -> np.ndarray:
    """An engine's output, flat or not -> float32 [rows, width]. rows: how many there must be; None: as there are.

    Raises EngineError for another number of values.
    """
    flat = np.asarray(values, dtype=np.float32).ravel()
    count = flat.size // width if rows is None else rows
    if flat.size != count * width:
        raise EngineError(
            f"the engine gave {flat.size} logits; expected {count} rows of {width}. Please report this, with your "
            "engine flags"
        )
    return flat.reshape(count, width)


def probabilities(logits: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Logits [N, scoring tokens] -> float64 [N, scoring tokens]: their softmax, or the sigmoid of each.

    Of a full softmax they are log-probabilities, of which the largest may have been rounded up to a little above 0.
    """
    x = np.asarray(logits, dtype=np.float64)
    if recipe.activation == "full_softmax":
        return np.asarray(np.exp(np.minimum(x, 0.0)))
    if recipe.activation == "softmax":
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    small = np.exp(-np.abs(x))  # never overflows
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def weighted_scores(logits: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Logits [N, scoring tokens] -> float64 [N]: the score of a step, sum(weight_i * p_i) as in `Recipe`."""
    return _weighted(probabilities(logits, recipe), recipe)


def _weighted(step_probabilities: np.ndarray, recipe: Recipe) -> np.ndarray:
    scores = step_probabilities @ np.asarray(recipe.weights, dtype=np.float64)
    return np.minimum(scores, 1.0)  # a sum of probabilities may round to 1 + 2e-16


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


def _answer_mass(log_shares: np.ndarray, recipe: Recipe) -> tuple[float, ...]:
    """`StepScores.answer_mass`. Raises EngineError for logits that are no logarithms of shares of a vocabulary."""
    mass = np.exp(log_shares).sum(axis=1)
    if (mass > 1.0 + _ROUNDING).any():
        raise EngineError(
            f"the answers of recipe {recipe.name!r} have more than the whole vocabulary's probability together "
            f"({mass.max():.4g}), so these are logits and no logarithms of probabilities; if the server only "
            "completes text, start it with --logprobs-mode raw_logprobs"
        )
    return tuple(np.minimum(mass, 1.0).tolist())


def _shown(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(f"{n:.4f}" if math.isfinite(n) else str(n) for n in numbers) + "]"
