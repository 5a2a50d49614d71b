"""CompletionsRoute: solutions -> step scores from a server that completes text, one read per step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vllm_prm.client.completions.answers import names_of, scoring_row
from vllm_prm.client.completions.forms import PATH, Form, understood
from vllm_prm.client.completions.tokenizers import check_same, tokenizer_for
from vllm_prm.client.packing import Solution
from vllm_prm.client.transport import Refusal, Transport
from vllm_prm.errors import EngineError, PRMError, RecipeError, RequestError
from vllm_prm.prompts import Scoring, scorings
from vllm_prm.prompts.reads import PromptReads, Read, ReadMemory
from vllm_prm.recipes import BoundRecipe, Recipe, bind
from vllm_prm.scores import StepScores
from vllm_prm.wire.completions import Choice, CompletionResponse, ModelCard, ModelList

_READS_PER_REQUEST = 64  # prompts in one request: enough to fill a batch of the server's, little to repeat
_TOKENS_PER_REQUEST = 65_536  # of all of them: 500 kB of JSON, below the 1 MB that nginx takes by default


@dataclass(frozen=True)
class _Server:
    """What is known of the server. names: how it names the scoring tokens."""

    model: ModelCard
    recipe: BoundRecipe
    form: Form
    names: list[str]


class CompletionsRoute:
    """The `/v1/completions` of one server, asked by a recipe. Lives in one event loop."""

    def __init__(
        self, transport: Transport, recipe: Recipe, model: str | None, tokenizer: Any, priority: int = 0
    ) -> None:
        if recipe.head != "lm_head" or recipe.activation == "sigmoid":
            raise RecipeError(
                f"recipe {recipe.name!r} reads the head {recipe.head!r} by {recipe.activation}, and a server that "
                "completes text gives probabilities of tokens only; serve it with vllm-prm (VLLM_PLUGINS=prm vllm "
                "serve MODEL --task embed)"
            )
        self._transport, self._recipe, self._model, self._tokenizer = transport, recipe, model, tokenizer
        self._priority = priority
        self._memory = ReadMemory()
        self._server: asyncio.Task[_Server] | None = None

    def forget(self) -> None:
        """Forget the steps that were scored, because the server's model has other weights now."""
        self._memory.forget()

    async def recipe(self) -> Recipe:
        """The recipe, once the server is known to be one that can be asked by it. Raises PRMError if it is not."""
        return (await self._known()).recipe.recipe

    async def ask(self, solutions: Sequence[Solution]) -> list[StepScores | PRMError] | Refusal:
        """A result for each solution. Raises PRMError if the server failed as a whole."""
        server = await self._known()
        planned = await asyncio.to_thread(scorings, solutions, server.recipe, self._longest(server))
        results: dict[int, StepScores | PRMError] = {}
        waiting: dict[int, Scoring] = {}
        for index, scoring in enumerate(planned):
            if isinstance(scoring, PRMError):
                results[index] = scoring
            else:
                waiting[index] = scoring
        while waiting:
            prompts = {index: self._reads(scoring, server) for index, scoring in waiting.items()}
            refusal = await self._read(server, [reads for group in prompts.values() for reads in group])
            if refusal is not None:
                return refusal
            for index, group in prompts.items():
                try:
                    waiting[index].take(*_taken(group))
                    if waiting[index].prompts:
                        continue
                    results[index] = waiting[index].result()
                except PRMError as error:
                    results[index] = error
                del waiting[index]
        return [results[index] for index in range(len(solutions))]

    def _reads(self, scoring: Scoring, server: _Server) -> list[PromptReads]:
        return [PromptReads(prompt, server.model.id, self._memory) for prompt in scoring.prompts]

    def _longest(self, server: _Server) -> int | None:
        """Of a prompt, in tokens: one more is generated."""
        return None if server.model.max_model_len is None else server.model.max_model_len - 1

    async def _read(self, server: _Server, prompts: Sequence[PromptReads]) -> Refusal | None:
        """Ask for all that is missing, in as few requests as the bounds allow; each read once."""
        takers: dict[bytes, list[tuple[PromptReads, Read]]] = {}
        for prompt in prompts:
            for read in prompt.missing:
                takers.setdefault(read.key, []).append((prompt, read))
        for pack in _packs([group[0][1] for group in takers.values()], server.form):
            prompts_ids = [read.token_ids for read in pack]
            if server.form.takes_ids:
                body = server.form.request(server.model.id, prompts_ids, server.recipe)
            else:  # each is made a text, and tokenized to see whether it comes out the same
                body = await asyncio.to_thread(server.form.request, server.model.id, prompts_ids, server.recipe)
            body.priority = self._priority or None
            response = await self._transport.ask_or_refusal("POST", PATH, CompletionResponse, body)
            if isinstance(response, Refusal):
                return response
            self._check(response, pack, server)
            choices = sorted(response.choices, key=lambda choice: choice.index)
            for choice, read, num_computed in zip(choices, pack, _num_computed(response, pack), strict=True):
                row = _row(choice, server)
                for prompt, its_read in takers[read.key]:
                    if isinstance(row, PRMError):
                        prompt.fail(row)
                    else:
                        prompt.take(its_read, row, num_computed)
        return None

    def _check(self, response: CompletionResponse, pack: Sequence[Read], server: _Server) -> None:
        indices = sorted(choice.index for choice in response.choices)
        if indices != list(range(len(pack))):
            raise EngineError(
                f"{self._transport.url}{PATH} sent {len(indices)} completions for {len(pack)} prompts, with the "
                f"indices {indices[:20]}; expected each from 0 to {len(pack) - 1} once"
            )
        sent = sum(len(read.token_ids) for read in pack)
        counted = response.usage.prompt_tokens if response.usage else None
        if counted not in (None, sent):
            raise EngineError(
                f"{self._transport.url} counted {counted} prompt tokens, and {sent} were sent: it shortens prompts, or "
                "tokenizes otherwise"
            )
        if response.model not in (None, server.model.id):
            raise EngineError(
                f"{self._transport.url} was asked for model {server.model.id!r} and answered with {response.model!r}"
            )

    async def _known(self) -> _Server:
        if self._server is None or (self._server.done() and (self._server.cancelled() or self._server.exception())):
            self._server = asyncio.create_task(self._find_out())
        return await asyncio.shield(self._server)  # shared: one caller that gives up must not cancel the others'

    async def _find_out(self) -> _Server:
        cards = (await self._transport.ask("GET", "/v1/models", ModelList)).data
        names = [card.id for card in cards]
        if self._model is not None and self._model not in names:
            raise RequestError(f"{self._transport.url} serves {', '.join(names)}, and not {self._model!r}")
        if not cards:
            raise EngineError(f"{self._transport.url}/v1/models lists no model")
        card = next((card for card in cards if card.id == self._model), cards[0])
        tokenizer = await tokenizer_for(self._tokenizer, card, self._transport)
        recipe = await asyncio.to_thread(bind, self._recipe, tokenizer)
        await check_same(self._transport, card.id, recipe)
        form, seen = await understood(self._transport, card.id, recipe)
        return _Server(card, recipe, form, names_of(recipe, form.names_ids, seen))


def _packs(reads: Sequence[Read], form: Form) -> Iterator[list[Read]]:
    most = _READS_PER_REQUEST if form.takes_many else 1
    pack: list[Read] = []
    num_tokens = 0
    for read in reads:
        if pack and (len(pack) == most or num_tokens + len(read.token_ids) > _TOKENS_PER_REQUEST):
            yield pack
            pack, num_tokens = [], 0
        pack.append(read)
        num_tokens += len(read.token_ids)
    if pack:
        yield pack


def _num_computed(response: CompletionResponse, pack: Sequence[Read]) -> list[int]:
    """Tokens of each read that were computed: all, unless the server says how many of a single one were cached."""
    details = response.usage.prompt_tokens_details if response.usage else None
    num_cached = (details.cached_tokens if details else None) or 0
    return [len(read.token_ids) - (num_cached if len(pack) == 1 else 0) for read in pack]


def _row(choice: Choice, server: _Server) -> np.ndarray | PRMError:
    """The logits of a step, or why it cannot be scored."""
    rows = choice.logprobs.top_logprobs if choice.logprobs else None
    try:
        return scoring_row((rows and rows[0]) or {}, server.names, server.recipe, server.form.likeliest is None)
    except PRMError as error:
        return error


def _taken(group: Sequence[PromptReads]) -> tuple[list[np.ndarray], int]:
    taken = [reads.result() for reads in group]
    return [rows for rows, _ in taken], sum(num_cached for _, num_cached in taken)
