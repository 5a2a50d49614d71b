"""The bodies of `POST /v1/prm/score` and `GET /v1/prm/recipe`, as pydantic models.

The one description of the wire: the server's routes and our clients both use it, and a client of one's own can, since
it imports neither vLLM nor torch. A body that is malformed as a whole is
refused as a whole; a malformed solution inside a batch becomes a `Malformed` in its place, so that the others are
still answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vllm_prm.errors import RequestError
from vllm_prm.inputs import half_character, shown
from vllm_prm.questions import checked_question
from vllm_prm.recipes.types import Aggregation
from vllm_prm.wire.arrays import Rows
from vllm_prm.wire.faults import OURS, explain

_PRIORITY = Field(ge=-(2**31), le=2**31 - 1)  # far inside the 64-bit integers vLLM sends to its engine process

Returned = Literal["scores", "probabilities", "logits"]
EncodingFormat = Literal["float", "base64"]


@dataclass(frozen=True)
class Malformed:
    """A solution of a batch that is not what the schema says: what is wrong, and where in the solution."""

    message: str
    param: str | None


def _encodable(value: str) -> str:
    if half := half_character(value):
        raise PydanticCustomError(OURS, "{half}", {"half": half})
    return value


Text = Annotated[str, AfterValidator(_encodable)]


def _question(value: Any) -> Any:
    if isinstance(value, str):
        return _encodable(value)
    if not isinstance(value, list):
        text = "expected text, or a list of content parts, found {found}"
        raise PydanticCustomError(OURS, text, {"found": shown(value)})
    try:
        return checked_question(value, "it")
    except RequestError as error:
        raise PydanticCustomError(OURS, "{fault}", {"fault": str(error)}) from error


# A text, or the content parts of a chat message: {"type": "text", ...} and {"type": "image_url", ...}.
Question = Annotated[str | list[dict[str, Any]], BeforeValidator(_question)]
_ASKED = (
    "What is solved, without any prompt format: text, or a list of content parts as a chat message has them, for "
    "questions with images."
)


def _keep_faults(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        return Malformed(*explain(error.errors()))


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt field is a mistake, not an option


class Solution(_Request):
    """A question and the steps of one solution to it, without step tags."""

    question: Question
    steps: list[Text]


class ScoreRequest(_Request):
    """One solution (question, steps), several to one question (question, candidates), or any batch (inputs)."""

    model: str | None = Field(
        default=None, description="A served model name, or a LoRA adapter's; default: the served model."
    )
    question: Question | None = Field(default=None, description=_ASKED)
    steps: list[Text] | None = Field(
        default=None, description="The steps of one solution, in order, without step tags."
    )
    candidates: Annotated[list[Annotated[list[Text], WrapValidator(_keep_faults)]], Field(min_length=1)] | None = Field(
        default=None, description="Several solutions to the question, each a list of steps; the answer names the best."
    )
    inputs: Annotated[list[Annotated[Solution, WrapValidator(_keep_faults)]], Field(min_length=1)] | None = Field(
        default=None, description="Solutions to different questions."
    )
    aggregate: Aggregation | None = Field(
        default=None, description="How step scores become one score per solution; default: the recipe's."
    )
    returned: Returned = Field(
        default="scores",
        alias="return",
        description="What to give beside the step scores: the scoring tokens' probabilities, or their logits, "
        "one row per step.",
    )
    encoding_format: EncodingFormat = Field(
        default="float",
        description="How `return`'s numbers are written: as JSON's, or as the base64 of their float32 bytes, which is "
        "small and quick to read.",
    )
    priority: Annotated[StrictInt, _PRIORITY] = Field(
        default=0, description="Lower runs earlier; needs a server started with --scheduling-policy priority."
    )

    @model_validator(mode="after")
    def _one_form(self) -> ScoreRequest:
        forms = [name for name in ("steps", "candidates", "inputs") if getattr(self, name) is not None]
        if len(forms) != 1:
            raise PydanticCustomError(
                OURS,
                "give exactly one of steps, candidates and inputs; found {forms}",
                {"forms": " and ".join(forms) or "none of them"},
            )
        if self.question is None and self.inputs is None:
            raise PydanticCustomError(OURS, "question is missing; it stands beside {form}", {"form": forms[0]})
        if self.question is not None and self.inputs is not None:
            raise PydanticCustomError(OURS, "question stands beside steps or candidates; every input has its own", {})
        return self

    @property
    def solutions(self) -> list[Solution | Malformed]:
        """What is to be scored, in order, whichever way it was asked."""
        if self.inputs is not None:
            return list(self.inputs)
        solutions = [self.steps] if self.candidates is None else self.candidates
        question = self.question or ""
        return [
            steps if isinstance(steps, Malformed) else Solution.model_construct(question=question, steps=steps)
            for steps in solutions
        ]


class ErrorInfo(BaseModel):
    """vLLM's error object, which is OpenAI's."""

    message: str
    type: str
    param: str | None = None
    code: int


_BASE64 = "with encoding_format base64 one string for the solution, the base64 of little-endian float32, row by row"


class Score(BaseModel):
    """One solution's answer. Step scores are in [0, 1] (PURE's in [-1, 1]), one per step, in order."""

    index: int
    object: Literal["prm.score"]
    step_scores: list[float]
    score: float = Field(description="The step scores, aggregated.")
    first_error: int | None = Field(
        description="0-based index of the first step below the recipe's threshold (mostly 0.5); null: none."
    )
    probabilities: Rows | None = Field(
        default=None, description=f"[steps, scoring tokens], float64 values; {_BASE64}, where they are rounded to it."
    )
    logits: Rows | None = Field(default=None, description=f"[steps, scoring tokens], float32 values; {_BASE64}.")
    answer_mass: list[float] | None = Field(
        default=None,
        description="Of a judge: how much of the vocabulary's probability its answers have together, per step. Below "
        "0.5 the model rather says something else, and its scores mean little.",
    )
    num_prompt_tokens: int
    num_cached_tokens: int = Field(description="Prompt tokens that came from vLLM's prefix cache.")


class Failure(BaseModel):
    """What stands in the place of a solution that could not be scored; the others are answered."""

    index: int
    object: Literal["error"]
    error: ErrorInfo


class CachedTokens(BaseModel):
    cached_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ScoreResponse(BaseModel):
    id: str
    object: Literal["list"]
    created: int = Field(description="Unix time in seconds.")
    model: str
    aggregate: Aggregation
    data: list[Score | Failure]
    best: int | None = Field(
        default=None, description="With candidates: the index of the best; null if none was scored."
    )
    usage: Usage


class RecipeResponse(BaseModel):
    """What this server reads, and where that comes from. Per scoring token: labels, ids, weights."""

    model: str
    max_model_len: int = Field(description="Longest prompt, in tokens.")
    labels: list[str]
    scoring_token_ids: list[int]
    weights: list[float]
    step_tag_ids: list[list[int]] = Field(description="Token sequences; any of them ends a step.")
    aggregation: Aggregation = Field(description="The default aggregate.")
    recipe: dict[str, Any] = Field(description="The whole recipe, as vllm_prm.load_recipe reads it.")
