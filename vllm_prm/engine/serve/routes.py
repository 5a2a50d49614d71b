"""Our HTTP routes; endpoints.py puts them on vLLM's API server.

POST /v1/prm/score            step scores of solutions, given as (question, steps)
POST /v1/prm/prompts          what the model reads of a solution, token by token
GET  /v1/prm/recipe           what the server reads
POST /get_reward              the same model as OpenRLHF's remote reward model
POST /remote_rm               and as slime's and vime's
POST /worker_value_inference  and as OpenR's
GET  /prm                     a page to try all this on
"""

# No `from __future__ import annotations`: FastAPI resolves the handlers' types through vLLM's decorators.

from base64 import b64decode
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
from vllm.entrypoints.serve.utils.api_utils import load_aware_call, validate_json_request, with_cancellation

from vllm_prm.engine.serve.bodies import (
    prompts_response,
    reward_response,
    sample_response,
    score_response,
    values_response,
)
from vllm_prm.engine.serve.caller import Caller
from vllm_prm.engine.serve.page import page
from vllm_prm.engine.serve.refusals import Refused, Route, serving_of
from vllm_prm.engine.serve.serving import PRMServing
from vllm_prm.recipes.types import Aggregation
from vllm_prm.wire import (
    PromptsRequest,
    PromptsResponse,
    RecipeResponse,
    Reply,
    RewardRequest,
    RewardResponse,
    SampleRequest,
    SampleResponse,
    ScoreRequest,
    ScoreResponse,
    ValuesRequest,
    ValuesResponse,
)

REWARD_PATH, SAMPLE_PATH, VALUES_PATH = STACK_PATHS = "/get_reward", "/remote_rm", "/worker_value_inference"

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": ErrorResponse,
        "description": "The request, or its only solution, cannot be scored: the message says why.",
    },
    401: {"description": "The server has an API key, and the request does not carry it."},
    404: {"model": ErrorResponse, "description": "The model is not served, or the server has no recipe."},
    503: {"model": ErrorResponse, "description": "Try again later."},
}
_QUESTION = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
_RIGHT, _WRONG = ["12 + 5 = 17", "17 - 9 = 8"], ["12 + 5 = 17", "17 - 9 = 7"]
_SCORE_EXAMPLES: Any = {
    "one solution": {"value": {"question": _QUESTION, "steps": _RIGHT}},
    "several to one question": {"value": {"question": _QUESTION, "candidates": [_WRONG, _RIGHT]}},
    "with logits, in base64": {
        "value": {"question": _QUESTION, "steps": _RIGHT, "return": "logits", "encoding_format": "base64"}
    },
    "a batch, with probabilities": {
        "value": {
            "inputs": [{"question": _QUESTION, "steps": _RIGHT}],
            "aggregate": "product",
            "return": "probabilities",
        }
    },
}
_PROMPTS_EXAMPLES: Any = {
    "steps": {"value": {"question": _QUESTION, "steps": _RIGHT}},
    "one text": {"value": {"question": _QUESTION, "solution": "\n".join(_RIGHT)}},
}
_REWARD_EXAMPLES: Any = {
    "OpenRLHF's": {
        "value": {
            "query": [f"{_QUESTION} Step 1: {_RIGHT[0]}\nStep 2: {_RIGHT[1]}"],
            "prompts": [_QUESTION],
            "labels": ["8"],
        }
    }
}
_SAMPLE_EXAMPLES: Any = {
    "slime's and vime's": {
        "value": {"prompt": _QUESTION, "response": f"Step 1: {_RIGHT[0]}\nStep 2: {_RIGHT[1]}", "label": "8"}
    }
}
_VALUES_EXAMPLES: Any = {
    "OpenR's": {"value": {"input_str": [f"{_QUESTION} Step 1: {_RIGHT[0]} ки\nStep 2: {_RIGHT[1]} ки\n"]}}
}
_Aggregate = Annotated[
    Aggregation | None, Query(description="How step scores become the reward; default: the recipe's.")
]


class _WireResponse(JSONResponse):
    """A body of the wire as JSON, written by pydantic in one pass.

    On the event loop: 1,000 steps take 0.04 ms (measured), and pydantic would hold Python's lock in a thread, too.
    """

    def render(self, content: BaseModel) -> bytes:
        return content.model_dump_json(exclude_unset=True).encode()


router = APIRouter(tags=["process reward model"], route_class=Route, responses=_ERRORS)


@router.post(
    "/v1/prm/score",
    summary="Score reasoning steps",
    description="One score per step of each solution. In a batch (candidates or inputs) a solution that cannot be "
    "scored gets an error in its place and the others are answered.",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": ScoreResponse}},
)
@with_cancellation  # type: ignore[untyped-decorator]
@load_aware_call  # type: ignore[untyped-decorator]
async def score(
    request: Annotated[ScoreRequest, Body(openapi_examples=_SCORE_EXAMPLES)], raw_request: Request
) -> Response:
    serving, caller = await _asked(raw_request, request.model, request.priority)
    response = await score_response(serving, request, caller)
    if isinstance(response, ScoreResponse):
        return _WireResponse(response)
    return JSONResponse({"error": response.model_dump()}, status_code=response.code)


@router.post(
    "/v1/prm/prompts",
    summary="What the model reads of a solution",
    description="The prompts that a solution becomes, token by token, and the positions where scores are read. Nothing "
    "is computed: it costs one tokenization.",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": PromptsResponse}},
)
async def prompts(
    request: Annotated[PromptsRequest, Body(openapi_examples=_PROMPTS_EXAMPLES)], raw_request: Request
) -> Response:
    return _WireResponse(await prompts_response(serving_of(raw_request), request))


@router.get(
    "/v1/prm/recipe",
    summary="What this server reads",
    description="Step tags, scoring tokens and weights, resolved against the served tokenizer; the default "
    "aggregation; and the whole recipe, with its source.",
    responses={200: {"model": RecipeResponse}},
)
async def recipe(raw_request: Request) -> Response:
    return _WireResponse(await serving_of(raw_request).describe())


@router.get("/prm", include_in_schema=False)
async def try_it() -> Response:
    """It holds nothing of the server's, so it needs no key; what it asks for does."""
    return HTMLResponse(page(), headers={"Cache-Control": "no-cache", "X-Frame-Options": "DENY"})


@router.post(
    REWARD_PATH,
    summary="OpenRLHF's remote reward model",
    description="One reward per query, in the shape OpenRLHF's `--reward.remote_url` expects. With prompts, a query's "
    "response is split into steps; without, the query's own step tags are scored. Labels are not used. "
    "OpenRLHF sends no options, so they are part of the URL: `/get_reward?aggregate=product&on_error=0`.",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": RewardResponse}},
)
@with_cancellation  # type: ignore[untyped-decorator]
@load_aware_call  # type: ignore[untyped-decorator]
async def get_reward(
    request: Annotated[RewardRequest, Body(openapi_examples=_REWARD_EXAMPLES)],
    raw_request: Request,
    aggregate: _Aggregate = None,
    on_error: Annotated[
        float | None,
        Query(
            allow_inf_nan=False,
            description="The reward of a query that cannot be scored (an empty response, one that is too long). "
            "Default: such a query fails the request.",
        ),
    ] = None,
) -> Response:
    serving, caller = await _asked(raw_request)
    response = await reward_response(serving, request, caller, aggregate, on_error)
    return _WireResponse(response)


@router.post(
    SAMPLE_PATH,
    summary="slime's and vime's remote reward model",
    description="The reward of one sample, in the shape that `--rm-type remote_rm --rm-url` expects: a number, or with "
    "`/remote_rm?reply=object` an object for `--reward-key reward`. Other options are part of the URL, too.",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": float | SampleResponse}},
)
@with_cancellation  # type: ignore[untyped-decorator]
@load_aware_call  # type: ignore[untyped-decorator]
async def remote_rm(
    request: Annotated[SampleRequest, Body(openapi_examples=_SAMPLE_EXAMPLES)],
    raw_request: Request,
    aggregate: _Aggregate = None,
    on_error: Annotated[
        float | None,
        Query(
            allow_inf_nan=False,
            description="The reward of a response that cannot be scored. Default: 0, and none with sum_log, whose best "
            "reward is 0.",
        ),
    ] = None,
    reply: Annotated[
        Reply, Query(description="What the answer is: the reward, or an object that holds it.")
    ] = "number",
) -> Response:
    serving, caller = await _asked(raw_request)
    response = await sample_response(serving, request, caller, aggregate, on_error)
    return JSONResponse(response.reward) if reply == "number" else _WireResponse(response)


@router.post(
    VALUES_PATH,
    summary="OpenR's reward model worker",
    description="The step scores of texts in which each step ends with the recipe's step tag, in the shape that OpenR "
    "asks its reward model worker for. A text that cannot be scored has no values, and the errors say why.",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": ValuesResponse}},
)
@with_cancellation  # type: ignore[untyped-decorator]
@load_aware_call  # type: ignore[untyped-decorator]
async def worker_value_inference(
    request: Annotated[ValuesRequest, Body(openapi_examples=_VALUES_EXAMPLES)], raw_request: Request
) -> Response:
    serving, caller = await _asked(raw_request)
    return _WireResponse(await values_response(serving, request, caller))


async def _asked(raw_request: Request, model: str | None = None, priority: int = 0) -> tuple[PRMServing, Caller]:
    """Who is asked, and who asks. Raises Refused for a model that is not served."""
    serving = serving_of(raw_request)
    caller = await serving.caller(model, priority, raw_request)
    if isinstance(caller, ErrorResponse):
        raise Refused(caller)
    return serving, caller


class RewardKey(AuthenticationMiddleware):
    """vLLM's API key for our paths outside the ones that vLLM guards (/v1 and the like).

    RL stacks send no headers of one's choice, but their HTTP libraries send what stands in a URL: the key is also taken
    as the password of Basic authentication, `http://any:KEY@host:8000/get_reward`.
    """

    def verify_token(self, headers: Headers) -> bool:
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                _, _, key = b64decode(credentials, validate=True).decode().partition(":")
            except ValueError:
                return False
            headers = Headers({"Authorization": f"Bearer {key}"})
        return super().verify_token(headers)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] != "OPTIONS":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path.rstrip("/") in STACK_PATHS and not self.verify_token(Headers(scope=scope)):
                vllms = JSONResponse({"error": "Unauthorized"}, status_code=HTTPStatus.UNAUTHORIZED)  # to a wrong key
                return vllms(scope, receive, send)
        return self.app(scope, receive, send)
