"""PRMServing: solutions -> step scores over vLLM's EngineClient, as vLLM's own handlers ask it.

Every prompt goes through `EngineClient.encode` (pooled.py) or, on an engine that generates text, step by step through
`EngineClient.generate` (generated.py), so batching, prefix cache, priorities, LoRA, tracing and metrics are
vLLM's. All solutions of a request are under way at once; text is tokenized in the renderer's threads, off the event
loop (planning.py), and so are large numbers of scores made. What is wrong with one solution stays with that solution;
what is wrong with the server (an engine that died, a full queue) fails the whole request, with vLLM's status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.serving import BaseServing
from vllm.exceptions import VLLMClientError
from vllm.tracing import extract_trace_headers
from vllm.utils.async_utils import make_async

from vllm_prm.engine.serve.caller import Caller, concurrently
from vllm_prm.engine.serve.ending import Ending
from vllm_prm.engine.serve.generated import GeneratedLogits
from vllm_prm.engine.serve.metrics import counted, planning
from vllm_prm.engine.serve.pictures import Pictures
from vllm_prm.engine.serve.planning import Planner
from vllm_prm.engine.serve.pooled import Answer, PooledLogits
from vllm_prm.engine.serve.ranks import Engines
from vllm_prm.engine.serve.traces import traced
from vllm_prm.engine.settings import adapter_of, recipe_settings, scores_by_generating
from vllm_prm.errors import EngineError, PRMError, RequestError, ScorerError
from vllm_prm.prompts import Prompt, Scoring, SeenQuestion, scorings
from vllm_prm.prompts.encoding import too_long
from vllm_prm.questions import question_key
from vllm_prm.recipes import bind
from vllm_prm.recipes.pieces import piece_text
from vllm_prm.scores import StepScores, logits_matrix
from vllm_prm.wire import ErrorInfo, PromptTokens, RecipeResponse

if TYPE_CHECKING:
    from fastapi import Request
    from vllm.engine.protocol import EngineClient
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
    from vllm.entrypoints.serve.utils.request_logger import RequestLogger

    from vllm_prm.questions import Question
    from vllm_prm.recipes import BoundRecipe, Recipe

logger = logging.getLogger("vllm.vllm_prm")

# What one solution can be wrong in: ours, vLLM's, and vLLM's that are still plain (its handlers answer those with 400).
SOLUTION_ERRORS = (PRMError, VLLMClientError, ValueError)

# Steps whose scores are made on the event loop: 13 take 0.02 ms there, 1,000 take 0.4 ms (measured), and the way to a
# thread and back 0.1 ms.
_FEW_STEPS = 1000

_P = ParamSpec("_P")
_T = TypeVar("_T")


class TaglessError(RequestError):
    """A text that has no step tag of the recipe: whoever wrote it has another recipe in mind."""


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
        self.ending = Ending(engine_client)
        # vLLM's own pool of threads for tokenizing: the event loop must not wait for a tokenizer.
        self._executor = engine_client.renderer._executor
        self._engines = Engines(engine_client.vllm_config)
        self._pictures = Pictures(engine_client.renderer, lambda: self.bound_recipe)
        self._planner = Planner(self._scorings, self._executor, self.model_config.renderer_num_workers)
        self._logits = (
            GeneratedLogits(engine_client, lambda: self.bound_recipe, self._log_inputs)
            if scores_by_generating(self.model_config)
            else PooledLogits(engine_client, self._log_inputs)
        )
        self._described: RecipeResponse | None = None

    @property
    def tokenizer(self) -> Any:
        return self.engine.renderer.get_tokenizer()

    @cached_property
    def bound_recipe(self) -> BoundRecipe:
        """The recipe against the served tokenizer. The first look takes a tenth of a second: not on the event loop."""
        return bind(self.recipe, self.tokenizer)

    async def caller(self, model: str | None, priority: int, http_request: Request) -> Caller | ErrorResponse:
        """Who asks, and for which model; vLLM's 404 if that is not served."""
        adapter = adapter_of(self.model_config)
        request = _ModelRequest(adapter if model is None else model)
        if refusal := await self._check_model(request):
            return refusal
        lora = self._maybe_get_adapters(request)
        if adapter is not None and (lora is None or lora.lora_name != adapter):
            return create_error_response(
                f"recipe {self.recipe.name!r} is for the adapter {adapter!r}, and not for {model!r}; leave model out"
            )
        return Caller(
            request_id=f"prm-{self._base_request_id(http_request)}",
            model=self.models.model_name(lora),
            lora=lora,
            priority=priority,
            trace_headers=extract_trace_headers(http_request.headers) or None,
        )

    async def score(self, question: Question, steps: Sequence[str], caller: Caller, name: str) -> StepScores:
        """Score one solution. name: unique within the request. Raises one of SOLUTION_ERRORS if it cannot be."""
        return await counted(self._score(question, steps, caller, name))

    async def _score(self, question: Question, steps: Sequence[str], caller: Caller, name: str) -> StepScores:
        scoring = await traced(self._planned(question, steps, caller.looks), self.engine, caller, name)
        scores: StepScores | None = None
        rounds = 0
        while scores is None:
            asked = concurrently(
                self._logits.of_prompt(prompt, caller, f"{name}-{rounds}-{i}")
                for i, prompt in enumerate(scoring.prompts)
            )
            answers = await self._engines.ask(question, scoring.prompts, asked)
            rounds += 1
            if self._asks_once and len(steps) <= _FEW_STEPS:
                scores = _scores(scoring, answers)
            else:  # recipes that ask again make their next prompts then, which is to tokenize
                scores = await self._off_the_loop(_scores)(scoring, answers)
        return scores

    async def _planned(
        self, question: Question, steps: Sequence[str], looks: dict[Hashable, asyncio.Task[SeenQuestion]]
    ) -> Scoring:
        """looks: those at questions with images that are under way already."""
        if isinstance(question, str):
            return await self._planner.scoring(question, steps)
        key = question_key(question)
        if key not in looks:
            looks[key] = asyncio.create_task(self._look(question))
        scoring = await self._planner.scoring(await looks[key], steps)
        await self._pictures.expand_soon(scoring, self._logits.longest)
        return scoring

    async def _look(self, question: Question) -> SeenQuestion:
        await self._off_the_loop(self._pictures.check)()  # binds the recipe, if nobody has
        return await self._pictures.see_soon(question)

    async def tokens(self, question: Question, steps: Sequence[str]) -> list[PromptTokens]:
        """What the model would read first. Raises as `score` does."""
        scoring = await self._planned(question, steps, {})
        return await self._off_the_loop(self._tokens_of)(scoring.prompts)

    def _tokens_of(self, prompts: Sequence[Prompt]) -> list[PromptTokens]:
        return [
            PromptTokens(
                token_ids=list(prompt.token_ids),
                tokens=[piece_text(piece) for piece in self.tokenizer.convert_ids_to_tokens(list(prompt.token_ids))],
                positions=list(prompt.positions),
            )
            for prompt in prompts
        ]

    async def score_text(self, text: str, caller: Caller, name: str) -> StepScores:
        """Score a text as it stands, at the step tags in it. Raises one of SOLUTION_ERRORS if it cannot be."""
        return await counted(self._score_text(text, caller, name))

    async def _score_text(self, text: str, caller: Caller, name: str) -> StepScores:
        token_ids = await self._off_the_loop(self._text_ids)(text)
        values, num_cached_tokens = await self._logits.of_text(token_ids, caller, name)
        logits = logits_matrix(values, len(self.recipe.scoring_tokens))
        if not len(logits):
            tags = " or ".join(tag.spelled for tag in self.recipe.step_tag)
            if not tags:
                raise TaglessError(f"recipe {self.recipe.name!r} has no step tag; send a question and its steps")
            raise TaglessError(f"no step tag ({tags}) in {text[:60]!r}; each step ends with one")
        return StepScores.from_logits(logits, self.recipe, len(token_ids), num_cached_tokens)

    async def describe(self) -> RecipeResponse:
        """The served recipe, with its pieces as ids of the served vocabulary."""
        if self._described is None:
            self._described = await self._off_the_loop(self._recipe_response)()
        return self._described

    def _recipe_response(self) -> RecipeResponse:
        settings = recipe_settings(self.bound_recipe, self.model_config)
        return RecipeResponse(
            model=self.models.model_name(),
            max_model_len=self._logits.longest,
            labels=list(self.recipe.labels),
            scoring_token_ids=list(settings.scoring_ids),
            weights=list(self.recipe.weights),
            step_tag_ids=[list(tag) for tag in settings.step_tags],
            aggregation=self.recipe.aggregation,
            recipe=self.recipe.to_dict(),
        )

    def _off_the_loop(self, function: Callable[_P, _T]) -> Callable[_P, Awaitable[_T]]:
        """The function in a thread of vLLM's pool."""
        awaitable: Callable[_P, Awaitable[_T]] = make_async(function, executor=self._executor)
        return awaitable

    def _scorings(self, solutions: Sequence[tuple[str | SeenQuestion, Sequence[str]]]) -> list[Scoring | PRMError]:
        with planning(len(solutions)), _told():
            return scorings(solutions, self.bound_recipe, self._logits.longest)

    @property
    def _asks_once(self) -> bool:
        return not self.recipe.prompt_format.asks_again

    def _text_ids(self, text: str) -> list[int]:
        if (error := too_long(len(text), self.tokenizer, self._logits.longest)) is not None:
            raise error
        with _told():
            return list(self.tokenizer.encode(text))


@contextmanager
def _told() -> Iterator[None]:
    """What nobody foresaw while a prompt is made, as by a tokenizer that fails on a text, is that solution's error.

    Raises EngineError in its place; the log has where it came from. In the tokenizer's thread: that there is none any
    more, because the server ends, is the whole request's.
    """
    try:
        yield
    except SOLUTION_ERRORS:
        raise
    except Exception as error:
        logger.exception("vllm-prm: a solution's prompt could not be made")
        raise EngineError(
            f"the prompt could not be made: {type(error).__name__}: {error}. The server's log says where"
        ) from error


class _ModelRequest:
    """What BaseServing wants to know of a request."""

    def __init__(self, model: str | None) -> None:
        self.model = model

    def model_dump_json(self, **_: Any) -> str:
        return f'{{"model": {self.model!r}}}'


def error_info(error: Exception, param: str | None = None) -> ErrorInfo:
    """An error as vLLM answers it: message, type and HTTP status."""
    if isinstance(error, ScorerError):  # a recipe that does not fit the tokenizer, logits that are not finite
        response = create_error_response(str(error), "InternalServerError", HTTPStatus.INTERNAL_SERVER_ERROR)
    else:
        response = create_error_response(error)
    info = response.error
    return ErrorInfo(message=info.message, type=info.type, param=info.param or param, code=int(info.code))


def _scores(scoring: Scoring, answers: Sequence[Answer]) -> StepScores | None:
    """Hand in the logits of the scoring's prompts; its step scores if they were the last, else None."""
    scoring.take([logits for logits, _ in answers], sum(num_cached_tokens for _, num_cached_tokens in answers))
    return None if scoring.prompts else scoring.result()
