"""The bodies of `POST /get_reward`, `/remote_rm` and `/worker_value_inference`, the shapes of RL stacks and of OpenR.

They are texts. A question's images have no place in them, and a reward that was given without looking at the images
would be wrong without a word: requests with images are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from vllm_prm.wire.faults import ONE, OURS, SEVERAL
from vllm_prm.wire.types import Text

# Chooses a field's branch, a text or a list, by what was sent: the faults told are those of that branch alone.
_ONE_OR_SEVERAL = Discriminator(lambda value: SEVERAL if isinstance(value, list) else ONE)
_OneText = Annotated[Text, Tag(ONE)]

# Where trainers keep images: TRL's data sets `image` and `images`, vLLM's prompts `multi_modal_data`.
_IMAGE_FIELDS = ("image", "images", "multi_modal_data")
_TEXT_FIELDS = ("query", "prompts", "prompt")
_DEPTH = 3  # a list of prompts, of messages, of their content's parts


def _without_images(body: Any) -> Any:
    """The body as it is, unless it holds images."""
    if isinstance(body, Mapping) and (found := next(_images(body), None)) is not None:
        place, what = found
        raise PydanticCustomError(
            OURS,
            "{place} holds {what}, and this route takes texts only. Send questions with images to /v1/prm/score, as "
            "the content parts of a chat message",
            {"place": place, "what": what},
        )
    return body


def _images(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields that hold images, and what they hold."""
    for name in _IMAGE_FIELDS:
        if any(_flat(body.get(name))):  # a list of nothing, one for each text, is no image
            yield name, "an image"
    for name in _TEXT_FIELDS:
        for part in _flat(body.get(name)):
            kind = part.get("type") if isinstance(part, Mapping) else None
            if isinstance(kind, str) and kind.removeprefix("input_").startswith(("image", "video", "audio")):
                yield name, f"a part of type {kind!r}"


def _flat(value: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """What lists hold, and the contents of messages in them."""
    if isinstance(value, Mapping) and isinstance(value.get("content"), list):
        value = value["content"]
    if isinstance(value, list) and depth:
        for entry in value:
            yield from _flat(entry, depth - 1)
    else:
        yield value


class RewardRequest(BaseModel):
    """OpenRLHF's remote reward model request. Fields that forks of it add are ignored, but images are refused."""

    query: list[Text] = Field(min_length=1, description="Prompt and response, as one text each.")
    prompts: list[Text] | None = Field(
        default=None, description="The prompt part of each query; the rest is split into steps."
    )
    labels: list[Any] | None = Field(
        default=None, description="Not used: a process reward model needs no reference answer."
    )

    _no_images = model_validator(mode="before")(_without_images)

    @model_validator(mode="after")
    def _same_length(self) -> RewardRequest:
        if self.prompts is not None and len(self.prompts) != len(self.query):
            raise PydanticCustomError(
                OURS,
                "expected one prompt per query, found {prompts} prompts for {queries} queries",
                {"prompts": len(self.prompts), "queries": len(self.query)},
            )
        return self


class RewardResponse(BaseModel):
    """OpenRLHF reads rewards (for the advantage), scores (in [0, 1], for filtering) and extra_logs (for charts)."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]
    step_scores: list[list[float]] = Field(description="Per query; empty for one that could not be scored.")
    errors: dict[int, str] = Field(description="Why, by index of the query, where `on_error` gave the reward.")


class Message(BaseModel):
    """One message of a conversation. Other fields, such as tool calls, are ignored."""

    role: Text
    content: Annotated[_OneText | Annotated[list[dict[str, Any]], Tag(SEVERAL)], _ONE_OR_SEVERAL] | None = None


class SampleRequest(BaseModel):
    """slime's and vime's remote reward model request: one sample. Other fields are ignored, but images are refused."""

    prompt: Annotated[_OneText | Annotated[list[Message], Field(min_length=1), Tag(SEVERAL)], _ONE_OR_SEVERAL] = Field(
        description="The prompt as the policy reads it, with or without its chat template, or as messages."
    )
    response: Text = Field(description="What the policy wrote; it is split into steps.")
    label: Any = Field(default=None, description="Not used: a process reward model needs no reference answer.")

    _no_images = model_validator(mode="before")(_without_images)


Reply = Literal["number", "object"]


class SampleResponse(BaseModel):
    """With `reply=object`: slime and vime take the reward by `--reward-key`."""

    reward: float
    step_scores: list[float] = Field(description="Empty for a response that could not be scored.")
    first_error: int | None = Field(description="0-based index of the first step that scores below 0.5; null: none.")
    error: str | None = Field(description="Why `on_error` gave the reward; null where the response was scored.")


class ValuesRequest(BaseModel):
    """OpenR's request to its reward model worker. Other fields are ignored, but images are refused."""

    input_str: Annotated[_OneText | Annotated[list[Text], Field(min_length=1), Tag(SEVERAL)], _ONE_OR_SEVERAL] = Field(
        description="Question and solution as one text, each step ended by the step tag; or several such texts."
    )

    _no_images = model_validator(mode="before")(_without_images)


class ValuesResponse(BaseModel):
    """OpenR reads `value`, and counts a text without values as the worst."""

    input: str | list[str]
    value: list[float] | list[list[float]] = Field(
        description="The step scores of the text, or of each; none for a text that could not be scored."
    )
    errors: dict[int, str] = Field(description="Why, by index of the text.")
