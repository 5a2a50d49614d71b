"""Scoring: the life of one solution, from a question and its steps to its step scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from vllm_prm.errors import PRMError, RequestError
from vllm_prm.inputs import checked_steps, checked_text
from vllm_prm.prompts.drafts import Draft, Prompt, prompts_of
from vllm_prm.prompts.layouts import Solution
from vllm_prm.prompts.mass import tell_of_mass
from vllm_prm.prompts.pictures import SeenQuestion
from vllm_prm.prompts.rounds import rounds_of
from vllm_prm.questions import Question
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
    media: the question's images, if it holds any. Its prompts then have placeholders in their place, and are to be run
        as whoever runs them makes of those (`expand`).
    """

    def __init__(
        self,
        question: Question | SeenQuestion,
        steps: Sequence[str],
        recipe: BoundRecipe,
        max_tokens: int | None = None,
    ) -> None:
        """max_tokens: the longest prompt that the model takes.

        Raises RequestError if the question or a step cannot be scored as it is, naming the step, and RecipeError if
        the tokenizer or its chat template does not fit the recipe.
        """
        self._begin(question, steps, recipe, max_tokens)
        _raise(*_plan([self], recipe, max_tokens))

    def _begin(
        self, question: Question | SeenQuestion, steps: Sequence[str], recipe: BoundRecipe, max_tokens: int | None
    ) -> None:
        """All of the constructor's work but the prompts."""
        seen = question if isinstance(question, SeenQuestion) else SeenQuestion(_plain(question), None)
        self.media = seen.media
        solution = Solution.of(seen.content, checked_steps(steps), recipe)
        self._recipe = recipe
        self._num_steps = len(solution.steps)
        self._max_tokens = max_tokens
        self._rounds = rounds_of(solution)
        self.num_prompt_tokens = self.num_cached_tokens = 0
        self.prompts: list[Prompt] = []

    def take(self, logits: Sequence[np.ndarray], num_cached_tokens: int = 0) -> None:
        """Hand in the logits of `prompts`; afterwards `prompts` are the next ones.

        logits: per prompt, in order, its [positions, scoring tokens], flat or not. num_cached_tokens: of these prompts.
        Raises as the constructor does, and EngineError for logits that do not fit the prompts.
        """
        _raise(*take_all([(self, logits, num_cached_tokens)]))

    def _take(self, logits: Sequence[np.ndarray], num_cached_tokens: int) -> None:
        """All of `take` but the next prompts."""
        width = len(self._recipe.scoring_ids)
        rows = [
            logits_matrix(values, width, len(prompt.positions))
            for values, prompt in zip(logits, self.prompts, strict=True)
        ]
        self.num_prompt_tokens += sum(len(prompt.token_ids) for prompt in self.prompts)
        self.num_cached_tokens += num_cached_tokens
        self._rounds.take(rows)

    def expand(self, prompts: Sequence[Prompt]) -> None:
        """Put prompts in which the images have their own tokens in the place of `prompts`, one for each, in order."""
        pairs = zip(self.prompts, prompts, strict=True)
        assert all(len(short.positions) == len(whole.positions) for short, whole in pairs)
        self.prompts = list(prompts)

    def result(self) -> StepScores:
        """The step scores, once `prompts` is empty. Raises EngineError for logits that are not finite numbers."""
        if self.prompts:
            raise ValueError(f"{len(self.prompts)} prompts of this solution still wait for their logits")
        logits, recipe = self._rounds.step_logits(), self._recipe.recipe
        scores = StepScores.from_logits(logits, recipe, self.num_prompt_tokens, self.num_cached_tokens)
        tell_of_mass(scores, recipe)
        return scores


def scorings(
    solutions: Sequence[tuple[Question | SeenQuestion, Sequence[str]]],
    recipe: BoundRecipe,
    max_tokens: int | None = None,
) -> list[Scoring | PRMError]:
    """A Scoring for each (question, steps), in order; in the place of one that cannot be scored, its error.

    All texts are tokenized together, on every core, which is faster than one solution at a time.
    """
    begun: list[Scoring | PRMError] = []
    for question, steps in solutions:
        scoring = Scoring.__new__(Scoring)
        try:
            scoring._begin(question, steps, recipe, max_tokens)
            begun.append(scoring)
        except PRMError as error:
            begun.append(error)
    errors = iter(_plan([scoring for scoring in begun if isinstance(scoring, Scoring)], recipe, max_tokens))
    return [next(errors) or scoring if isinstance(scoring, Scoring) else scoring for scoring in begun]


def take_all(answers: Sequence[tuple[Scoring, Sequence[np.ndarray], int]]) -> list[PRMError | None]:
    """`Scoring.take` for several scorings of one recipe: their next prompts are tokenized together.

    answers: each scoring with what its `take` is given. Returns, for each, what its `take` would raise.
    """
    errors: dict[int, PRMError] = {}
    for index, (scoring, logits, num_cached_tokens) in enumerate(answers):
        try:
            scoring._take(logits, num_cached_tokens)
        except PRMError as error:
            errors[index] = error
    indices = [index for index in range(len(answers)) if index not in errors]
    if indices:
        first, *_ = answers[0]
        planned = _plan([answers[index][0] for index in indices], first._recipe, first._max_tokens)
        errors |= {index: error for index, error in zip(indices, planned, strict=True) if error is not None}
    return [errors.get(index) for index in range(len(answers))]


def _plan(scorings: Sequence[Scoring], recipe: BoundRecipe, max_tokens: int | None) -> list[PRMError | None]:
    """Give each scoring its next prompts. Returns the error of each that cannot have them."""
    drafts: list[list[Draft] | PRMError] = []
    for scoring in scorings:
        try:
            drafts.append(scoring._rounds.drafts())
        except PRMError as error:  # the tokenizer's chat template does not fit
            drafts.append(error)
    pairs = [
        (draft, scoring._num_steps)
        for scoring, its_drafts in zip(scorings, drafts, strict=True)
        if isinstance(its_drafts, list)
        for draft in its_drafts
    ]
    prompts = prompts_of(pairs, recipe, max_tokens)
    errors: list[PRMError | None] = []
    for scoring, its_drafts in zip(scorings, drafts, strict=True):
        if isinstance(its_drafts, PRMError):
            errors.append(its_drafts)
            continue
        its_prompts = list(islice(prompts, len(its_drafts)))
        errors.append(next((prompt for prompt in its_prompts if isinstance(prompt, PRMError)), None))
        scoring.prompts = [prompt for prompt in its_prompts if isinstance(prompt, Prompt)]
    return errors


def _plain(question: Question) -> str:
    """The question as text. Raises RequestError if it holds images that nobody has looked at."""
    if isinstance(question, list):
        raise RequestError(
            "the question holds images, and these are looked at by vLLM alone: score it with PRM, or with a server "
            "that has our plugin, on a pooling engine whose model sees; a server that only completes text takes text"
        )
    return checked_text(question, "question")


def _raise(error: PRMError | None) -> None:
    if error is not None:
        raise error
