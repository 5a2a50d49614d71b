"""A judge's answers: told once they are read, if the model would rather say something else."""

from __future__ import annotations

import logging
from functools import lru_cache
from threading import Lock

from vllm_prm.recipes.types import Recipe
from vllm_prm.scores import StepScores

# Under vLLM's own logger, so that a server's log shows it as its other lines; without vLLM Python prints it to stderr.
logger = logging.getLogger(f"vllm.{__name__}")

LEAST_MASS = 0.5  # below it anything but an answer is likelier than all answers together


class MassWatch:
    """Counts the solutions of one recipe whose answers have too little probability, in this process."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._num_low = self._num_steps = 0
        self._total = 0.0
        self._lock = Lock()

    def look(self, scores: StepScores) -> None:
        """scores: with an answer_mass. Told at 1, 10, 100, ... solutions: a dataset must not fill the log."""
        with self._lock:
            self._num_steps += len(scores)
            self._total += sum(scores.answer_mass)
            # In one chat a model sees itself answer, and does so more readily at the next step: SmolLM2's mass rises
            # from 0.54 to 0.96 at the second one. The first step says what it would do by itself.
            is_low = min(scores.answer_mass[0], sum(scores.answer_mass) / len(scores)) < LEAST_MASS
            self._num_low += is_low
            count, mean = self._num_low, self._total / self._num_steps
        if is_low and str(count).strip("0") == "1":
            logger.warning("%s", _warning(self._recipe, count, mean))


def _warning(recipe: Recipe, count: int, mean: float) -> str:
    answers = " and ".join(recipe.labels)
    return (
        f"In {count} solution(s) the answers of recipe {recipe.name!r} ({answers}) had less than {LEAST_MASS} of the "
        f"probability together, at the first step or on average (over all steps so far {mean:.2f}): this model would "
        "rather say something else, so its scores mean little. Ask otherwise (prompt.rubric and prompt.step in the "
        "recipe), name the words it does answer with (scoring_tokens), or use another model."
    )


@lru_cache(maxsize=16)  # as many as `recipes.bind` keeps
def mass_watch(recipe: Recipe) -> MassWatch:
    return MassWatch(recipe)


def tell_of_mass(scores: StepScores, recipe: Recipe) -> None:
    """Tell of a judge's answers. Of other recipes nothing is looked up, not even by the recipe's hash."""
    if scores.answer_mass:
        mass_watch(recipe).look(scores)
