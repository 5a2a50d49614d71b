"""PRMServing: solutions -> step scores over vLLM's EngineClient, as vLLM's own pooling handlers ask it.

Every prompt goes through `EngineClient.encode`, so batching, prefix cache, priorities, LoRA, tracing and metrics are
vLLM's. All solutions of a request are under way at once; text is tokenized in the renderer's threads, off the event
loop. What is wrong with one solution stays with that solution; what is wrong with the server (an engine that died, a
full queue) fails the whole request, with vLLM's status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.serving import BaseServing
from vllm.exceptions import GenerationError, RetryableRequestError, VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.pooling_params import PoolingParams
from vllm.utils.async_utils import make_async

from vllm_prm.engine.positions import KEY
from vllm_prm.engine.vocabulary import recipe_settings
from vllm_prm.errors import EngineError, PRMError, RequestError, ScorerError
from vllm_prm.prompts import Prompt, score_plan
from vllm_prm.scores import StepScores
from vllm_prm.wire import ErrorInfo, RecipeResponse

if TYPE_CHECKING:
    from fastapi import Request
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
    from vllm.entrypoints.serve.utils.request_logger import RequestLogger
    from vllm.lora.request import LoRARequest
    from vllm.outputs import PoolingRequestOutput

    from vllm_prm.recipes import Recipe

# What one solution can be wrong in: ours, vLLM's, and vLLM's that are still plain (its handlers answer those with 400).
SOLUTION_ERRORS = (PRMError, VLLMClientError, ValueError)

_Plan = Generator[list[Prompt], list[np.ndarray], np.ndarray]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Caller:
    """What all prompts of one HTTP request share."""

    request_id: str
    model: str
    lora: LoRARequest | None
    priority: int
    trace_headers: Mapping[str, str] | None


class PRMServing(BaseServing):
    """One per API server whose model has a recipe."""

    def __init__(
        self,
        engine_client: EngineClient,
        models: OpenAIServingModels,
        recipe: Recipe,
        request_logger: RequestLogger | None = None,
    ) -> None:
        super().__init__(models=models, model_config=engine_client.model_config, request_logger=request_logger)
        self.engine = engine_client
        self.recipe = recipe
        renderer = engine_client.renderer
        self._advanced = make_async(_advance, executor=renderer._executor)
        self._encoded = make_async(lambda text: list(self.tokenizer.encode(text)), executor=renderer._executor)
        self._resolved = make_async(self._resolve, executor=renderer._executor)
        self._described: RecipeResponse | None = None

    @property
    def tokenizer(self) -> Any:
        return self.engine.renderer.get_tokenizer()

    async def caller(self, model: str | None, priority: int, raw: Request) -> Caller | ErrorResponse:
        """Who asks, and for which model; vLLM's 404 if that is not served."""
        asked = _Asked(model)
        if refused := await self._check_model(asked):
            return refused
        lora = self._maybe_get_adapters(asked)
        return Caller(
            request_id=f"prm-{self._base_request_id(raw)}",
            model=self.models.model_name(lora),
            lora=lora,
            priority=priority,
            trace_headers=await self._get_trace_headers(raw.headers),
        )

    async def score(self, question: str, steps: Sequence[str], caller: Caller, name: str) -> StepScores:
        """Score one solution. name: unique within the request. Raises one of SOLUTION_ERRORS if it cannot be."""
        plan = score_plan(question, steps, self.recipe, self.tokenizer, self.model_config.max_model_len)
        logits: list[np.ndarray] | None = None
        tokens = cached = rounds = 0
        while True:
            prompts, result = await self._advanced(plan, logits)
            if result is not None:
                return StepScores.from_logits(result, self.recipe, tokens, cached)
            outputs = await concurrently(
                self._encode(list(prompt.token_ids), list(prompt.positions), caller, f"{name}-{rounds}-{i}")
                for i, prompt in enumerate(prompts)
            )
            rounds += 1
            tokens += sum(len(prompt.token_ids) for prompt in prompts)
            cached += sum(output.num_cached_tokens or 0 for output in outputs)
            logits = [self._rows(output, len(p.positions)) for output, p in zip(outputs, prompts, strict=True)]

    async def score_text(self, text: str, caller: Caller, name: str) -> StepScores:
        """Score a text as it stands, at the step tags in it. Raises one of SOLUTION_ERRORS if it cannot be."""
        ids = await self._encoded(text)
        output = await self._encode(ids, None, caller, name)
        rows = self._rows(output, None)
        if not len(rows):
            tags = " or ".join("".join(piece or "?" for piece in tag.pieces) for tag in self.recipe.step_tag)
            raise RequestError(f"no step tag ({tags}) in {text[:60]!r}; each step ends with one")
        return StepScores.from_logits(rows, self.recipe, len(ids), output.num_cached_tokens or 0)

    async def describe(self) -> RecipeResponse:
        """The served recipe, with its pieces as ids of the served vocabulary."""
        if self._described is None:
            self._described = await self._resolved()
        return self._described

    def _resolve(self) -> RecipeResponse:
        found = recipe_settings(self.recipe, self.tokenizer, self.model_config)
        return RecipeResponse(
            model=self.models.model_name(),
            max_model_len=self.model_config.max_model_len,
            labels=list(self.recipe.labels),
            scoring_token_ids=list(found.scoring_ids),
            weights=list(self.recipe.weights),
            step_tag_ids=[list(tag) for tag in found.step_tags],
            aggregation=self.recipe.aggregation,
            recipe=json.loads(self.recipe.to_json()),
        )

    async def _encode(
        self, ids: list[int], positions: list[int] | None, caller: Caller, name: str
    ) -> PoolingRequestOutput:
        params = PoolingParams(task="embed", use_activation=False)
        if positions is not None:
            params.extra_kwargs = {KEY: {"positions": positions}}
        # As vLLM's handlers do: inside encode, what verify raises would become a 500.
        params.verify(self.model_config)
        prompt, request_id = tokens_input(ids), f"{caller.request_id}-{name}"
        self._log_inputs(request_id, prompt, params=params, lora_request=caller.lora)
        answers = self.engine.encode(
            prompt,
            params,
            request_id,
            lora_request=caller.lora,
            trace_headers=caller.trace_headers,
            priority=caller.priority,
        )
        async for output in answers:  # yields once
            if output.error is None:
                return output
            kind = RetryableRequestError if output.error.retryable else GenerationError
            raise kind(output.error.message)
        raise GenerationError("the engine ended the request without an answer")

    def _rows(self, output: PoolingRequestOutput, positions: int | None) -> np.ndarray:
        """float32 logits [positions, scoring tokens]."""
        flat = output.outputs.data.float().cpu().numpy().ravel()
        width = len(self.recipe.scoring_tokens)
        rows = len(flat) // width if positions is None else positions
        if len(flat) != rows * width:
            raise EngineError(
                f"the engine gave {len(flat)} logits; expected {rows} rows of {width}. Please report this"
            )
        return flat.reshape(rows, width)


class _Asked:
    """What BaseServing wants to know of a request."""

    def __init__(self, model: str | None) -> None:
        self.model = model

    def model_dump_json(self, **_: Any) -> str:
        return f'{{"model": {self.model!r}}}'


def is_servers_fault(error: Exception) -> bool:
    """True for a recipe that does not fit the tokenizer, logits that are not finite: nothing a request can mend."""
    return isinstance(error, ScorerError)


def error_info(error: Exception, param: str | None = None) -> ErrorInfo:
    """An error as vLLM would answer it: message, type and HTTP status."""
    if is_servers_fault(error):
        told = create_error_response(str(error), "InternalServerError", HTTPStatus.INTERNAL_SERVER_ERROR).error
    else:
        told = create_error_response(error).error
    return ErrorInfo(message=told.message, type=told.type, param=told.param or param, code=int(told.code))


async def concurrently(tasks: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Results of coroutines run at once, in order. The first to raise cancels the others, and so their requests."""
    try:
        async with asyncio.TaskGroup() as group:
            started = [group.create_task(task) for task in tasks]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in started]


def _advance(plan: _Plan, logits: list[np.ndarray] | None) -> tuple[list[Prompt], np.ndarray | None]:
    """The prompts a plan asks for next, or its result. (StopIteration cannot cross a thread pool's future.)"""
    try:
        return (next(plan) if logits is None else plan.send(logits)), None
    except StopIteration as done:
        return [], done.value
