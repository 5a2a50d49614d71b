"""What becomes of a request that the engine says has failed, in every vLLM of the range."""

from __future__ import annotations

from http import HTTPStatus
from types import SimpleNamespace

import pytest
from vllm import outputs
from vllm.entrypoints.serve import create_error_response

from vllm_prm.engine.compat import request_failure
from vllm_prm.engine.serve.serving import SOLUTION_ERRORS

# vLLM 0.32's and later; before it an engine says otherwise that a request failed.
FAILURE = getattr(outputs, "RequestError", None)
needs_failures = pytest.mark.skipif(
    FAILURE is None, reason="this vLLM's outputs name no failure: run it with vLLM 0.32 or later"
)


def test_an_output_without_a_failure():
    output = outputs.PoolingRequestOutput("1", outputs.PoolingOutput(None), [1], 0, True)
    assert request_failure(output) is None


@needs_failures
@pytest.mark.parametrize(
    ("retryable", "status"), [(True, HTTPStatus.SERVICE_UNAVAILABLE), (False, HTTPStatus.INTERNAL_SERVER_ERROR)]
)
@pytest.mark.parametrize("chooses_its_exception", [True, False])
def test_a_failure_is_vllms_exception(monkeypatch, retryable, status, chooses_its_exception):
    if not chooses_its_exception:  # as in vLLM 0.32
        monkeypatch.delattr(FAILURE, "to_exception", raising=False)
    exception = request_failure(SimpleNamespace(error=FAILURE("kv_load_failure", "try again", retryable)))
    assert not isinstance(exception, SOLUTION_ERRORS)  # the server's fault: it fails the whole request
    assert create_error_response(exception).error.code == status


@needs_failures
def test_a_prompt_that_the_engine_refuses_is_the_solutions_fault():
    if not hasattr(FAILURE, "to_exception"):
        pytest.skip("this vLLM's failures choose no exception: run it with vLLM 0.33 or later")
    exception = request_failure(SimpleNamespace(error=FAILURE("validation_error", "it is empty")))
    assert isinstance(exception, SOLUTION_ERRORS)
    assert create_error_response(exception).error.code == HTTPStatus.BAD_REQUEST
