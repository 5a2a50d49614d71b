"""Scoring: the life of one solution, from a question and its steps to its step scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vllm_prm.errors import PRMError
from vllm_prm.inputs import checked_steps, checked_text
from vllm_prm.prompts.drafts import Prompt, prompt_of
from vllm_prm.prompts.layouts import Solution
from vllm_prm.prompts.rounds import rounds_of
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.scores import StepScores, logits_matrix


class Scoring:
    """One solution on its way to its scores. It runs no model; whoever holds one does, as in

        scoring = Scoring(question, steps, recipe, max_tokens)
        while scoring.prompts:
            scoring.take([logits_of(prompt) for prompt in scoring.prompts])
        scoring.result()

    prompts: to be run next, all of them; empty when every step has its logits. Most recipes ask once, by one prompt.
    num_prompt_tokens: of all prompts that were run. num_cached_tokens: how many of them came from the prefix cache.
    """

    def __init__(self, question: str, steps: Sequence[str], recipe: BoundRecipe, max_tokens: int | None = None) -> None:
        """max_tokens: the longest prompt that the model takes.

        Raises RequestError if the question or a step cannot be scored as it is, naming the step, and RecipeError if
        the tokenizer or its chat template does not fit the recipe.
        """
        solution = Solution.of(checked_text(question, "question"), checked_steps(steps), recipe)
        self._recipe = recipe
        self._num_steps = len(solution.steps)
        self._max_tokens = max_tokens
        self._rounds = rounds_of(solution)
        self.num_prompt_tokens = self.num_cached_tokens = 0
        self.prompts = self._next_prompts()

    def take(self, logits: Sequence[np.ndarray], num_cached_tokens: int = 0) -> None:
        """Hand in the logits of `prompts`; afterwards `prompts` are the next ones.

        logits: per prompt, in order, its [positions, scoring tokens], flat or not. num_cached_tokens: of these prompts.
        Raises as the constructor does, and EngineError for logits that do not fit the prompts.
        """
        width = len(self._recipe.scoring_ids)
        rows = [
            logits_matrix(values, width, len(prompt.positions))
            for values, prompt in zip(logits, self.prompts, strict=True)
        ]
        self.num_prompt_tokens += sum(len(prompt.token_ids) for prompt in self.prompts)
        self.num_cached_tokens += num_cached_tokens
        self._rounds.take(rows)
        self.prompts = self._next_prompts()

    def result(self) -> StepScores:
        """The step scores, once `prompts` is empty. Raises EngineError for logits that are not finite numbers."""
        if self.prompts:
            raise ValueError(f"{len(self.prompts)} prompts of this solution still wait for their logits")
        logits = self._rounds.step_logits()
        return StepScores.from_logits(logits, self._recipe.recipe, self.num_prompt_tokens, self.num_cached_tokens)

    def _next_prompts(self) -> list[Prompt]:
        drafts = self._rounds.drafts()
        return [prompt_of(draft, self._recipe, self._num_steps, self._max_tokens) for draft in drafts]


def scorings(
    solutions: Sequence[tuple[str, Sequence[str]]], recipe: BoundRecipe, max_tokens: int | None = None
) -> list[Scoring | PRMError]:
    """A Scoring for each (question, steps), in order; in the place of one that cannot be scored, its error."""
    results: list[Scoring | PRMError] = []
    for question, steps in solutions:
        try:
            results.append(Scoring(question, steps, recipe, max_tokens))
        except PRMError as error:
            results.append(error)
    return results
