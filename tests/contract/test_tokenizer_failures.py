"""A tokenizer that raises on a text: that solution's error, told as vLLM tells errors, and nothing else is lost."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import TINY_PRM
from fastapi.testclient import TestClient
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.entrypoints.launchers.app import build_app
from vllm.utils.argparse_utils import FlexibleArgumentParser

import vllm_prm.engine.serve.serving
from vllm_prm.engine.serve.bodies import score_response
from vllm_prm.engine.serve.caller import Caller
from vllm_prm.engine.serve.planning import Planner
from vllm_prm.engine.serve.serving import PRMServing
from vllm_prm.errors import EngineError, RequestError
from vllm_prm.recipes import load_recipe
from vllm_prm.wire import ScoreRequest

BODIES = {
    "/v1/prm/score": {"question": "q", "steps": ["a"]},
    "/v1/prm/prompts": {"question": "q", "steps": ["a"]},
    "/get_reward": {"query": ["a ки"]},
    "/remote_rm": {"prompt": "q", "response": "a"},
    "/worker_value_inference": {"input_str": ["a ки"]},
}


def fails(error: Exception):
    def call(*_):
        raise error

    return call


class Serving(PRMServing):
    """Without an engine: planning comes before it."""

    recipe = load_recipe("math-shepherd")
    bound_recipe = tokenizer = None
    _logits = SimpleNamespace(longest=512)

    def __init__(self, executor: Executor, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self._executor = executor
        self.engine = SimpleNamespace(is_tracing_enabled=self._is_tracing)
        self._planner = Planner(self._scorings, executor, 1)
        monkeypatch.setattr(vllm_prm.engine.serve.serving, "scorings", fails(error))
        self.tokenizer = SimpleNamespace(all_special_tokens=[], encode=fails(error))

    @staticmethod
    async def _is_tracing():
        return False

    async def caller(self, model, priority, http_request):
        return Caller("prm-1", "m", None, 0, None)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.mark.parametrize("path", BODIES)
def test_every_route_tells_it(monkeypatch, executor, path):
    monkeypatch.setenv("VLLM_PLUGINS", "prm")
    built = build_app(make_arg_parser(FlexibleArgumentParser()).parse_args([TINY_PRM]), ("embed",), None)
    built.state.prm_serving = Serving(executor, RuntimeError("not this text"), monkeypatch)
    answer = TestClient(built).post(path, json=BODIES[path])  # which raises what would close the connection
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["type"] == "InternalServerError"
    assert "the prompt could not be made: RuntimeError: not this text" in error["message"]


@pytest.mark.parametrize(("error", "kind"), [(KeyError("x"), EngineError), (RequestError("too long"), RequestError)])
def test_whose_fault_it_is(monkeypatch, executor, error, kind):
    with pytest.raises(kind) as raised:
        asyncio.run(Serving(executor, error, monkeypatch)._planned("q", ["a"], {}))
    assert (raised.value is error) == (kind is RequestError)


def test_a_server_that_ends_fails_the_whole_request(monkeypatch, executor):
    """As vLLM does: no list of errors with status 200."""
    executor.shutdown()
    serving = Serving(executor, RuntimeError("not this text"), monkeypatch)
    request = ScoreRequest(question="q", candidates=[["a"], ["b"]])
    with pytest.raises(RuntimeError, match="after shutdown"):
        asyncio.run(score_response(serving, request, Caller("prm-1", "m", None, 0, None)))
