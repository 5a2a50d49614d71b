"""The forms in which servers can be asked for log-probabilities, and which of them a server understands.

vLLM takes token ids and gives the tokens that are asked for. Others give their likeliest tokens only, by text, and some
take text only. The first form that a server answers is used; it is asked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import EngineError, UnsupportedError
from vllm_prm.recipes.binding import BoundRecipe
from vllm_prm.wire.completions import CompletionRequest, CompletionResponse

PATH = "/v1/completions"
_MOST = (20, 5)  # likeliest tokens: vLLM's --max-logprobs, then OpenAI's limit for completions


@dataclass(frozen=True)
class Form:
    """likeliest: how many tokens are asked for; None: just the scoring tokens, by id. names_ids: tokens are named by
    their id. takes_ids: prompts are sent as token ids, otherwise as text."""

    likeliest: int | None
    names_ids: bool
    takes_ids: bool

    def request(self, model: str, prompts: Sequence[Sequence[int]], recipe: BoundRecipe) -> CompletionRequest:
        """Every setting that could shift a probability is neutral, whatever the server's own defaults are."""
        fields = {
            "model": model,
            "prompt": [list(ids) if self.takes_ids else text_of(recipe, ids) for ids in prompts],
            "max_tokens": 1,
            "temperature": 1.0,
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
    ways = [(None, True), *((most, True) for most in _MOST), *((most, False) for most in _MOST)]
    return [Form(likeliest, names_ids, takes_ids) for takes_ids in (True, False) for likeliest, names_ids in ways]


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


async def understood(transport: Transport, model: str, recipe: BoundRecipe) -> Form:
    """The first form that the server answers. Raises UnsupportedError, with its last answer, if there is none."""
    prompt = list(recipe.tokenizer.encode("1 + 1 = 2"))
    trouble = "nothing was asked"
    for form in forms():
        request = form.request(model, [prompt], recipe)
        response = await transport.ask_or_refusal("POST", PATH, CompletionResponse, request)
        if isinstance(response, Refusal):
            trouble = str(response.error)
        elif (fault := _fault(response, form, len(prompt))) is None:
            return form
        else:
            trouble = fault
    raise UnsupportedError(
        f"{transport.url}{PATH} does not give what step scores are made of: the log-probabilities of a prompt's next "
        f"token (logprobs=K, for prompts of token ids or of text). Last answer: {trouble}"
    )


def _fault(response: CompletionResponse, form: Form, num_tokens: int) -> str | None:
    choice = response.choices[0] if response.choices else None
    rows = choice.logprobs.top_logprobs if choice and choice.logprobs else None
    if not rows or not rows[0]:
        return "a completion without top_logprobs"
    if form.names_ids and not all(name.startswith("token_id:") for name in rows[0]):
        return f"tokens named by text, {sorted(rows[0])[:5]}, where ids were asked for"
    counted = response.usage.prompt_tokens if response.usage else None
    if counted not in (None, num_tokens):
        return f"{counted} prompt tokens, where {num_tokens} were sent"
    return None
