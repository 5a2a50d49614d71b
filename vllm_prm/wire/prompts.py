"""The bodies of `POST /v1/prm/prompts`: what the model would read of a solution, and where its scores are read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from vllm_prm.wire.faults import OURS
from vllm_prm.wire.types import Question, Text


class PromptsRequest(BaseModel):
    """A question, and one solution to it as steps or as one text."""

    model_config = ConfigDict(extra="forbid")

    question: Question = Field(description="What is solved: text, or a list of content parts with images.")
    steps: list[Text] | None = Field(default=None, description="The steps of the solution, without step tags.")
    solution: Text | None = Field(
        default=None,
        description="The solution as one text, cut into steps at the recipe's separator, or else at its step tags, "
        "blank lines or new lines.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> PromptsRequest:
        if (self.steps is None) == (self.solution is None):
            found = "neither" if self.steps is None else "both"
            raise PydanticCustomError(OURS, "give exactly one of steps and solution; found {found}", {"found": found})
        return self


class PromptTokens(BaseModel):
    """One prompt of a solution. A score is read from the logits at each position, in order."""

    token_ids: list[int]
    tokens: list[str] = Field(description="The text of each token; letters of several tokens stand as their bytes do.")
    positions: list[int] = Field(description="Indices into token_ids, ascending.")


class PromptsResponse(BaseModel):
    """Recipes that ask about each step by itself have a prompt per step, those that ask again only the first ones."""

    steps: list[str]
    prompts: list[PromptTokens]
