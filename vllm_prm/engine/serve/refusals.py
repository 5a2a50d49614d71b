"""What our routes answer instead of scores: vLLM's refusals, sentences about a malformed body, a server that ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from vllm.entrypoints.serve import create_error_response
from vllm.exceptions import VLLMNotFoundError

from vllm_prm.engine.serve.ending import WORDS
from vllm_prm.engine.serve.serving import PRMServing, error_info
from vllm_prm.errors import ScorerError
from vllm_prm.wire import explain

if TYPE_CHECKING:
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse


class Refused(Exception):
    """vLLM's answer to a request that goes no further."""

    def __init__(self, error: ErrorResponse) -> None:
        self.error = error


class Route(APIRoute):
    """A route that gives vLLM's refusals, and tells a malformed body in sentences, not as a Python list of faults."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except Refused as refused:
                return refusal(refused.error)
            except RequestValidationError as error:
                message, param = explain(error.errors())
                return refusal(create_error_response(message, param=param))
            except ScorerError as error:  # raised further, it would also close the connection
                return JSONResponse({"error": (told := error_info(error)).model_dump()}, status_code=told.code)
            except HTTPException as error:  # FastAPI's, for a body that JSON's parser cannot even fail on properly
                message = f"the body is not JSON in UTF-8, or is nested too deeply: {error.__cause__ or error.detail}"
                return refusal(create_error_response(message))
            except Exception:
                if not _is_ending(request):
                    raise
                # Not the request's fault: a status that says to send it again.
                return refusal(create_error_response(WORDS, "ServiceUnavailable", HTTPStatus.SERVICE_UNAVAILABLE))

        return handler


def refusal(error: ErrorResponse) -> Response:
    return JSONResponse(error.model_dump(), status_code=error.error.code)


def serving_of(request: Request) -> PRMServing:
    """Raises VLLMNotFoundError where the server scores nothing."""
    serving_or_reason = getattr(request.app.state, "prm_serving", None)
    if isinstance(serving_or_reason, PRMServing):
        return serving_or_reason
    raise VLLMNotFoundError(serving_or_reason or "This server has no engine, so it scores nothing.")


def _is_ending(request: Request) -> bool:
    serving = getattr(request.app.state, "prm_serving", None)
    return isinstance(serving, PRMServing) and serving.ending.begun
