"""What `POST /v1/prm/score` says of a judge's answers, and of recipes that are none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from vllm_prm import StepScores, load_recipe
from vllm_prm.engine.serve.bodies import score_response
from vllm_prm.wire import ScoreRequest

LOGITS = np.log([[0.6, 0.2], [0.1, 0.3]])


class Serving:
    """One that has scored already."""

    def __init__(self, recipe):
        self.recipe = recipe

    async def score(self, question, steps, caller, name):
        return StepScores.from_logits(LOGITS, self.recipe)


@pytest.mark.parametrize(("name", "mass"), [("judge", [0.8, 0.4]), ("math-shepherd", None)])
def test_answer_mass_is_there_for_judges_only(name, mass):
    request = ScoreRequest.model_validate({"question": "q", "steps": ["a", "b"]})
    caller = SimpleNamespace(request_id="prm-1", model="m")
    response = asyncio.run(score_response(Serving(load_recipe(name)), request, caller))
    (entry,) = response.model_dump(exclude_unset=True)["data"]
    assert entry["step_scores"] == pytest.approx([0.75, 0.25])
    assert entry.get("answer_mass") == (mass and pytest.approx(mass))
    assert ("answer_mass" in entry) == (mass is not None)
