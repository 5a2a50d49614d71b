"""ScoreRoute: solutions -> step scores from `/v1/prm/score`, the route of a server with our plugin.

The server sends logits, the base64 of float32 values, and step scores are made of them with the code that PRM uses, by
the recipe that the server names. The server's own step scores are a check: they must be the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from vllm_prm.client.batch import Result
from vllm_prm.client.packing import Solution
from vllm_prm.client.transport import Refusal, Transport, error_of
from vllm_prm.errors import EngineError, PRMError, RecipeError, RequestError
from vllm_prm.prompts.mass import tell_of_mass
from vllm_prm.questions import question_digest
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.scores import StepScores
from vllm_prm.wire import Failure, RecipeResponse, Score, ScoreRequest, ScoreResponse, explain, unpacked

_PATH = "/v1/prm/score"

# How far the server's step scores may be from those made of its logits: exp differs by a unit in the last place
# between machines (1e-16), another recipe by far more.
_SAME = 1e-9
_SHOWN = 20  # indices in a message about wrong ones: a few more than most requests have


class ScoreRoute:
    """Our routes on one server. Lives in one event loop. model, priority: as AsyncPRMClient has them."""

    def __init__(self, transport: Transport, model: str | None, priority: int) -> None:
        self._transport, self._model, self._priority = transport, model, priority
        self._recipe: asyncio.Task[Recipe] | None = None

    async def recipe(self) -> Recipe:
        """The recipe the server scores by; asked once. Raises EngineError, RecipeError if it cannot be read."""
        if self._recipe is None or (self._recipe.done() and (self._recipe.cancelled() or self._recipe.exception())):
            self._recipe = asyncio.create_task(self._ask_recipe())
        return await asyncio.shield(self._recipe)  # shared: one caller that gives up must not cancel the others'

    def forget(self) -> None:
        """Nothing is remembered here: the server's score cache is as fresh as its prefix cache."""

    async def ask(self, solutions: Sequence[Solution]) -> list[Result] | Refusal:
        """One request: a result for each solution. Raises PRMError if the request failed as a whole."""
        recipe = await self.recipe()
        request = self._request(solutions)
        response = await self._transport.ask_or_refusal("POST", _PATH, ScoreResponse, request, _session(solutions))
        if isinstance(response, Refusal):
            return response
        entries = sorted(response.data, key=lambda entry: entry.index)
        if (indices := [entry.index for entry in entries]) != list(range(len(solutions))):
            raise EngineError(
                f"{self._transport.url} answered with {len(indices)} entries, whose indices are {indices[:_SHOWN]}; "
                f"expected {len(solutions)}, each index from 0 once. Please report this"
            )
        return [self._result(entry, len(steps), recipe) for entry, (_, steps) in zip(entries, solutions, strict=True)]

    async def _ask_recipe(self) -> Recipe:
        response = await self._transport.ask("GET", "/v1/prm/recipe", RecipeResponse)
        try:
            return load_recipe(response.recipe)
        except RecipeError as error:
            raise RecipeError(
                f"the recipe of {self._transport.url} is not one this version of vllm-prm reads: {error}. "
                "Install the server's version"
            ) from error

    def _request(self, solutions: Sequence[Solution]) -> ScoreRequest:
        fields: dict[str, Any] = {"model": self._model, "priority": self._priority, "return": "logits"}
        fields["encoding_format"] = "base64"
        question, steps = solutions[0]
        if len(solutions) == 1:
            fields |= {"question": question, "steps": steps}
        elif all(other == question for other, _ in solutions):
            fields |= {"question": question, "candidates": [steps for _, steps in solutions]}
        else:
            fields["inputs"] = [{"question": question, "steps": steps} for question, steps in solutions]
        try:
            return ScoreRequest.model_validate(fields)
        except ValidationError as error:
            raise RequestError(explain(error.errors())[0]) from error

    def _result(self, entry: Score | Failure, num_steps: int, recipe: Recipe) -> Result:
        if isinstance(entry, Failure):
            return error_of(entry.error.code, entry.error.message, self._transport.url + _PATH)
        try:
            return self._checked(entry, num_steps, recipe)
        except PRMError as error:
            return error

    def _checked(self, entry: Score, num_steps: int, recipe: Recipe) -> StepScores:
        """The scores by our own recipe. Raises EngineError if there are too few, or the server's own are others."""
        rows = unpacked(entry.logits or [], len(recipe.weights))
        if not len(entry.step_scores) == len(rows) == num_steps:
            raise EngineError(
                f"{self._transport.url} sent {len(entry.step_scores)} scores and {len(rows)} rows of logits for "
                f"{num_steps} steps. Please report this"
            )
        scores = StepScores.from_logits(rows, recipe, entry.num_prompt_tokens, entry.num_cached_tokens)
        pairs = zip(scores.step_scores, entry.step_scores, strict=True)
        if not all(abs(score - servers) <= _SAME for score, servers in pairs):  # NaN is not
            raise EngineError(
                f"{self._transport.url} now scores by another recipe than {recipe.name!r}, which this client asked "
                "for first; the server was changed: make a new client"
            )
        tell_of_mass(scores, recipe)
        return scores


def _session(solutions: Sequence[Solution]) -> str:
    """A name for the question: all its solutions begin alike, so one server should have them. It tells nothing of it.

    Of several questions the first one's: a batch that is sent again, a step longer, is packed alike.
    """
    question, _ = solutions[0]
    return f"{question_digest(question):016x}"
