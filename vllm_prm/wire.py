"""Wire types of the HTTP routes `POST /v1/prm/score`, `GET /v1/prm/recipe` and `POST /get_reward`.

They import neither vLLM nor torch, so that a client of one's own can use them. A body that is malformed as a whole is
refused as a whole; a malformed solution inside a batch becomes a `Malformed` in its place, so that the others are
still answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vllm_prm.recipes.types import Aggregation

_MAX_FAULTS = 5  # faults told in one message: the first says what to fix, a list of thousands says nothing
_MAX_SHOWN = 60  # characters of a value that a message repeats
_PRIORITY = Field(ge=-(2**31), le=2**31 - 1)  # far inside the 64-bit integers vLLM sends to its engine process

Returned = Literal["scores", "probabilities", "logits"]


@dataclass(frozen=True)
class Malformed:
    """A solution of a batch that is not what the schema says: what is wrong, and where in the solution."""

    message: str
    param: str | None


def explain(faults: Sequence[Any]) -> tuple[str, str | None]:
    """Pydantic's (or FastAPI's) list of faults -> (one sentence for people, path of the first fault or None)."""
    told = [_fault(fault) for fault in faults[:_MAX_FAULTS]]
    more = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
    return "; ".join(text for text, _ in told) + more, told[0][1] if told else None


def _fault(fault: Any) -> tuple[str, str | None]:
    if not isinstance(fault, Mapping):
        return str(fault), None
    loc = list(fault["loc"])
    if loc[:1] in (["body"], ["query"]):
        loc = loc[1:]
    kind = fault["type"]
    if kind == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']} at character {loc[0]}", None
    path = ".".join(map(str, loc)) or None
    if kind == "missing":
        text = "is missing" if path else "the body is empty; expected a JSON object"
    elif kind == "extra_forbidden":
        text = "is not a field of this request; check its spelling"
    elif kind == "prm":
        text = fault["msg"]
    elif kind in ("model_type", "model_attributes_type"):
        text = f"expected a JSON object, found {_shown(fault.get('input'))}"
    else:
        text = f"{fault['msg'][:1].lower()}{fault['msg'][1:]}, found {_shown(fault.get('input'))}"
    return f"{path}: {text}" if path else text, path


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | dict | bytes):
        names = {list: "a list", tuple: "a list", dict: "an object", bytes: "text"}
        return f"{names[type(value)]} of length {len(value)}"
    text = repr(value[: _MAX_SHOWN + 1] if isinstance(value, str) else value)
    text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates cannot be sent back
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError(
            "prm",
            "character {at} is half of a surrogate pair, {half}, which is no text; send both halves or none",
            {"at": error.start, "half": f"U+{ord(value[error.start]):04X}"},
        ) from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]


def _keep_faults(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        return Malformed(*explain(error.errors()))


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt field is a mistake, not an option


class Solution(_Request):
    """A question and the steps of one solution to it, without step tags."""

    question: Text
    steps: list[Text]


class ScoreRequest(_Request):
    """One solution (question, steps), several to one question (question, candidates), or any batch (inputs)."""

    model: str | None = Field(
        default=None, description="A served model name, or a LoRA adapter's; default: the served model."
    )
    question: Text | None = Field(default=None, description="What is solved, without any prompt format.")
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
    priority: Annotated[StrictInt, _PRIORITY] = Field(
        default=0, description="Lower runs earlier; needs a server started with --scheduling-policy priority."
    )

    @model_validator(mode="after")
    def _one_form(self) -> ScoreRequest:
        given = [name for name in ("steps", "candidates", "inputs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "prm",
                "give exactly one of steps, candidates and inputs; found {given}",
                {"given": " and ".join(given) or "none of them"},
            )
        if self.question is None and self.inputs is None:
            raise PydanticCustomError("prm", "question is missing; it stands beside {given}", {"given": given[0]})
        if self.question is not None and self.inputs is not None:
            raise PydanticCustomError("prm", "question stands beside steps or candidates; every input has its own", {})
        return self

    @property
    def solutions(self) -> list[Solution | Malformed]:
        """What is to be scored, in order, whichever way it was asked."""
        if self.inputs is not None:
            return list(self.inputs)
        asked = [self.steps] if self.candidates is None else self.candidates
        question = self.question or ""
        return [
            steps if isinstance(steps, Malformed) else Solution.model_construct(question=question, steps=steps)
            for steps in asked
        ]


class ErrorInfo(BaseModel):
    """vLLM's error object, which is OpenAI's."""

    message: str
    type: str
    param: str | None = None
    code: int


class Score(BaseModel):
    """One solution's answer. Step scores are in [0, 1], one per step, in order."""

    index: int
    object: Literal["prm.score"]
    step_scores: list[float]
    score: float = Field(description="The step scores, aggregated.")
    first_error: int | None = Field(description="0-based index of the first step that scores below 0.5; null: none.")
    probabilities: list[list[float]] | None = Field(default=None, description="[steps, scoring tokens]")
    logits: list[list[float]] | None = Field(default=None, description="[steps, scoring tokens], float32 values")
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


class RewardRequest(BaseModel):
    """OpenRLHF's remote reward model request. Fields that forks of it add are ignored."""

    query: list[Text] = Field(min_length=1, description="Prompt and response, as one text each.")
    prompts: list[Text] | None = Field(
        default=None, description="The prompt part of each query; the rest is split into steps."
    )
    labels: list[Any] | None = Field(
        default=None, description="Not used: a process reward model needs no reference answer."
    )

    @model_validator(mode="after")
    def _same_length(self) -> RewardRequest:
        if self.prompts is not None and len(self.prompts) != len(self.query):
            raise PydanticCustomError(
                "prm",
                "expected one prompt per query, found {found} prompts for {n} queries",
                {"found": len(self.prompts), "n": len(self.query)},
            )
        return self


class RewardResponse(BaseModel):
    """OpenRLHF reads rewards (for the advantage), scores (in [0, 1], for filtering) and extra_logs (for charts)."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]]
    step_scores: list[list[float]] = Field(description="Per query; empty for one that could not be scored.")
    errors: dict[int, str] = Field(description="Why, by index of the query, where `on_error` gave the reward.")
