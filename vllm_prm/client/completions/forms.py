"""The forms in which servers can be asked for log-probabilities, and which of them a server understands.

vLLM takes token ids and gives the tokens that are asked for. Others give their likeliest tokens only, by text, and some
take text only, or one prompt a request. The first form that a server answers is used; it is asked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import EngineError, UnsupportedError
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.wire.completions import Choice, CompletionRequest, CompletionResponse

PATH = "/v1/completions"
# Likeliest tokens: as many as decide about most steps, vLLM's --max-logprobs, then OpenAI's limit for completions.
_MOST = (100, 20, 5)
_PROBES = ("1 + 1 = 2", "1 + 1 = 2, and so on")


@dataclass(frozen=True)
class Form:
    """likeliest: how many tokens are asked for; None: just the scoring tokens, by id. names_ids: tokens are named by
    their id. takes_ids: prompts are sent as token ids, otherwise as text. takes_many: prompts share a request."""

    likeliest: int | None
    names_ids: bool
    takes_ids: bool
    takes_many: bool

    def request(self, model: str, prompts: Sequence[Sequence[int]], recipe: BoundRecipe) -> CompletionRequest:
        """Every setting that could shift a probability is neutral, whatever the server's own defaults are."""
        fields = {
            "model": model,
            "prompt": [list(ids) if self.takes_ids else text_of(recipe, ids) for ids in prompts],
            "max_tokens": 1,
            # The likeliest token is chosen, so that the token which servers list beside their likeliest is one of them.
            "temperature": 0.0,
            "top_p": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": len(recipe.scoring_ids) if self.likeliest is None else self.likeliest,
        }
        if self.likeliest is None:
            fields["logprob_token_ids"] = list(recipe.scoring_ids)
        if self.names_ids:  # vLLM's, which has these settings too
            fields |= {"return_tokens_as_token_ids": True, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        return CompletionRequest.model_validate(fields)


def forms() -> list[Form]:
    """The best first."""
    named = [(None, True), *product(_MOST, [True, False])]
    return [
        Form(likeliest, names_ids, takes_ids, takes_many)
        for takes_ids, takes_many in product([True, False], repeat=2)
        for likeliest, names_ids in sorted(named, key=lambda way: not way[1])
    ]


def text_of(recipe: BoundRecipe, token_ids: Sequence[int]) -> str:
    """The text that a tokenizer which adds its own BOS makes these ids of. Raises EngineError if there is none."""
    tokenizer = recipe.tokenizer
    bos = tokenizer.bos_token_id
    without_bos = list(token_ids[1:] if token_ids and token_ids[0] == bos else token_ids)
    text = str(tokenizer.decode(without_bos))
    if list(tokenizer.encode(text)) != list(token_ids):
        raise EngineError(
            "this server takes prompts as text only, and the tokens of this one cannot be written as a text that is "
            "tokenized the same; use a server that takes token ids (vLLM)"
        )
    return text


async def understood(transport: Transport, model: str, recipe: BoundRecipe) -> tuple[Form, list[str]]:
    """The first form that the server answers, and how it named the tokens then. Raises UnsupportedError, with its last
    answer, if there is none."""
    prompts = [await asyncio.to_thread(recipe.tokenizer.encode, probe) for probe in _PROBES]
    trouble = "nothing was asked"
    by_id_is_safe = not await _speculates(transport)
    for form in forms():
        if form.likeliest is None and not by_id_is_safe:
            continue
        sent = prompts if form.takes_many else prompts[:1]
        request = await asyncio.to_thread(form.request, model, sent, recipe)
        response = await transport.ask_or_refusal("POST", PATH, CompletionResponse, request)
        if isinstance(response, Refusal):
            trouble = str(response.error)
        elif (fault := _fault(response, form, [*map(len, sent)])) is None:
            return form, [*_names(response.choices[0])]
        else:
            trouble = fault
    raise UnsupportedError(
        f"{transport.url}{PATH} does not give what step scores are made of: the log-probabilities of a prompt's next "
        f"token (logprobs=K, for prompts of token ids or of text). Last answer: {trouble}"
    )


async def _speculates(transport: Transport) -> bool:
    """Whether this is a vLLM that decodes speculatively. Asked for tokens by id, it gives none where another request of
    the batch has draft tokens, and its V1 engine dies if that one wants log-probabilities (0.32)."""
    return "vllm:spec_decode" in await transport.text_of_page("/metrics")


def _fault(response: CompletionResponse, form: Form, num_tokens: Sequence[int]) -> str | None:
    if len(response.choices) != len(num_tokens):
        return f"{len(response.choices)} completions for {len(num_tokens)} prompts"
    for choice in response.choices:
        names = _names(choice)
        if not names:
            return "a completion without top_logprobs"
        if form.names_ids and not all(name.startswith("token_id:") for name in names):
            return f"tokens named by text, {sorted(names)[:5]}, where ids were asked for"
    counted = response.usage.prompt_tokens if response.usage else None
    if counted not in (None, sum(num_tokens)):
        return f"{counted} prompt tokens, where {sum(num_tokens)} were sent"
    return None


def _names(choice: Choice) -> Iterable[str]:
    rows = choice.logprobs.top_logprobs if choice.logprobs else None
    return (rows and rows[0]) or ()
