"""The bodies of OpenAI's `POST /v1/completions`, `GET /v1/models` and vLLM's `/tokenize` and `/detokenize`, as far
as we use them.

Other servers give these, so fields that we do not know are ignored, and what a server may leave out is optional here.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class CompletionRequest(BaseModel):
    """Without defaults where a field must be sent: clients leave out what has its default.

    prompt: token ids of each prompt, or their texts. The optional fields are vLLM's own.
    """

    model: str
    prompt: list[list[int]] | list[str]
    max_tokens: int
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    logprobs: int
    logprob_token_ids: list[int] | None = None
    return_tokens_as_token_ids: bool | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    priority: int | None = None


class Logprobs(BaseModel):
    """top_logprobs: per generated token, the log-probability of each token that was asked for, by its text or id."""

    top_logprobs: list[dict[str, float | None] | None] | None = None


class Choice(BaseModel):
    index: int
    logprobs: Logprobs | None = None


class PromptDetails(BaseModel):
    cached_tokens: int | None = None


class CompletionUsage(BaseModel):
    prompt_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class CompletionResponse(BaseModel):
    model: str | None = None
    choices: list[Choice]
    usage: CompletionUsage | None = None


class ModelCard(BaseModel):
    """root: where vLLM loaded it from."""

    id: str
    root: str | None = None
    max_model_len: int | None = None


class ModelList(BaseModel):
    data: list[ModelCard]


class TokenizeRequest(BaseModel):
    """Of a text (prompt), or of a conversation (messages). return_token_strs: as the vocabulary spells the tokens."""

    model: str
    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool
    return_token_strs: bool | None = None


class TokenizeResponse(BaseModel):
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    model: str
    tokens: list[int]


class DetokenizeResponse(BaseModel):
    prompt: str
