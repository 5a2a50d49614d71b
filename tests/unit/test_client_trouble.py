"""The clients against a real HTTP server that misbehaves: busy, down, slow, dropping connections, talking nonsense."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from misbehaving import RECIPE, Server, listening, scored
from responses import score_response

import vllm_prm.client.transport
from vllm_prm.client import PRMClient
from vllm_prm.client.transport import retry_after
from vllm_prm.errors import EngineError, RecipeError, RequestError

pytestmark = pytest.mark.filterwarnings("error")  # asyncio warns of what was left behind


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def url(server):
    with listening(server.app) as url:
        yield url


@pytest.fixture
def pauses(monkeypatch):
    """Pauses between attempts are recorded, not slept."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds):
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(
        vllm_prm.client.transport, "asyncio", SimpleNamespace(sleep=record, LifoQueue=asyncio.LifoQueue)
    )
    return slept


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_with_growing_pauses(url, server, pauses, status):
    server.trouble = [str(status)] * 4
    with PRMClient(url) as client:
        assert client.score("q", ["1"]) == scored(1.0)
    assert len(pauses) == 4
    for pause, longest in zip(pauses, (0.5, 1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest


def test_retry_after_is_honoured(url, server, pauses):
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    server.trouble = ["429 after 7", f"503 after {later}", "503 after 0", "429 after soon"]
    with PRMClient(url) as client:
        assert client.score("q", ["1"]) == scored(1.0)
    assert pauses[0] == 7
    assert 27 < pauses[1] <= 30
    assert pauses[2] == 0
    assert 2 <= pauses[3] <= 4  # no time in it: our own pause


def test_a_server_that_asks_for_an_hour_is_not_waited_for(url, server, pauses):
    server.trouble = ["503 after 3600"]
    with PRMClient(url) as client, pytest.raises(EngineError, match=r"not ready \(HTTP 503, tried once\): no: 503"):
        client.score("q", ["1"])
    assert pauses == []


def test_a_server_that_stays_busy(url, server, pauses):
    server.trouble = ["429"] * 3
    with PRMClient(url, max_retries=2) as client:
        with pytest.raises(
            EngineError, match=r"overloaded or not ready \(HTTP 429, tried 3 times\): no: 429"
        ) as failed:
            client.score("q", ["1"])
        assert not isinstance(failed.value, RequestError)
        assert client.score("q", ["1"]) == scored(1.0)


def test_dropped_connections_are_asked_again_and_lose_nothing(url, server, pauses):
    server.trouble = ["drop"] * 10
    items = [("q", [str(i)]) for i in range(40)]
    with PRMClient(url, max_concurrency=8, max_retries=10) as client:
        assert client.score_batch(items, progress=False) == [scored(float(i)) for i in range(40)]
    assert server.asked["score"] == 15  # five requests, one at a time, the first of them eleven times
    server.trouble = ["drop"] * 2
    with PRMClient(url, max_retries=1, max_concurrency=1) as client:
        results = client.score_batch(items[:3], on_error="return", progress=False)
    assert "tried 2 times" in str(results[0])
    assert results[1:] == [scored(1.0), scored(2.0)]


@pytest.mark.parametrize(("per_request", "slow", "requests"), [(1, 1, 2), (2, 2, 1)])
def test_a_slow_server_is_not_asked_twice(url, server, per_request, slow, requests):
    server.trouble = ["slow"]
    with PRMClient(url, timeout=1.5, solutions_per_request=per_request) as client:
        results = client.score_batch([("q", ["1"]), ("q", ["2"])], on_error="return", progress=False)
        errors = [result for result in results if isinstance(result, EngineError)]
        assert len(errors) == slow
        assert "did not answer within 1.5 s" in str(errors[0])
        assert "timeout" in str(errors[0])
    assert server.asked["score"] == requests


def test_no_server_at_all(pauses):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with PRMClient(f"http://127.0.0.1:{port}", max_retries=2) as client:
        for ask in (
            lambda: client.score("q", ["1"]),
            lambda: client.score_batch([("q", ["1"])]),
            lambda: client.recipe,
        ):
            with pytest.raises(EngineError) as failed:
                ask()
            assert f"no answer from http://127.0.0.1:{port} (tried 3 times)" in str(failed.value)
            assert "VLLM_PLUGINS=prm vllm serve" in str(failed.value)
    assert len(pauses) == 6


def test_a_server_that_goes_away_in_a_batch_is_not_waited_for_by_every_item(server, pauses):
    with listening(server.app) as url:
        client = PRMClient(url, max_retries=3, max_concurrency=2)
        assert client.recipe == RECIPE
    results = client.score_batch([("q", ["1"])] * 1000 + [("q", 3)], on_error="return", progress=False)
    client.close()
    assert len(results) == 1001
    assert all(isinstance(result, EngineError) for result in results[:-1])
    assert isinstance(results[-1], RequestError)
    assert len(pauses) <= 2 * 3


def test_the_server_comes_back(server):
    with listening(server.app) as url:
        client = PRMClient(url)
        assert client.score("q", ["1"]) == scored(1.0)
    port = int(url.rsplit(":", 1)[1])
    again = uvicorn.Server(uvicorn.Config(server.app, port=port, log_level="critical"))
    later = threading.Timer(1.0, again.run)
    later.start()
    assert client.score("q", ["2"]) == scored(2.0)  # found by retries
    again.should_exit = True
    later.join()
    client.close()


def test_a_server_without_our_routes():
    app = FastAPI()

    @app.exception_handler(404)
    async def as_vllm(request, error):
        return JSONResponse({"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}}, 404)

    with listening(app) as url, PRMClient(url) as client:
        for ask in (lambda: client.score("q", ["1"]), lambda: client.recipe):
            with pytest.raises(EngineError, match="start the server with VLLM_PLUGINS=prm") as failed:
                ask()
            assert "/v1/embeddings cannot stand in" in str(failed.value)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, EngineError, "refused the API key"),
        (403, EngineError, "refused the request with HTTP 403: no: 403"),
        (500, EngineError, "failed with HTTP 500: no: 500"),
        (413, RequestError, "no: 413"),
        (422, RequestError, "no: 422"),
    ],
)
def test_other_statuses(url, server, status, kind, message):
    server.trouble = [str(status)]
    with PRMClient(url) as client, pytest.raises(kind, match=message) as failed:
        client.score("q", ["1"])
    assert type(failed.value) is kind
    assert server.asked["score"] == 1


@pytest.mark.parametrize("nonsense", ["<html>", "[]", '{"data": []}', '{"data": [{"logits": [[1, "x"]]}]}', "null"])
def test_answers_that_make_no_sense(url, server, nonsense):
    server.trouble = [nonsense]
    with PRMClient(url) as client:
        with pytest.raises(EngineError) as failed:
            client.score("q", ["1"])
        assert url in str(failed.value)
        assert not isinstance(failed.value, RequestError)
        assert client.score("q", ["1"]) == scored(1.0)


def test_never_fewer_scores_than_steps(url, server):
    server.trouble = [json.dumps(score_response(scored(1.0)))]
    with PRMClient(url) as client, pytest.raises(EngineError, match="sent 1 scores and 1 rows of logits for 2 steps"):
        client.score("q", ["1", "2"])


def test_a_server_whose_recipe_was_changed(url, server):
    response = score_response(scored(1.0))
    response["data"][0]["step_scores"] = [0.3]
    server.trouble = [json.dumps(response)]
    with PRMClient(url) as client, pytest.raises(EngineError, match="make a new client"):
        client.score("q", ["1"])


def test_a_recipe_that_cannot_be_read(url, server):
    server.recipe = {**server.recipe, "from_the_future": 1}
    with PRMClient(url) as client, pytest.raises(RecipeError, match="Install the server's version"):
        client.score("q", ["1"])
    server.recipe = None
    with PRMClient(url) as client, pytest.raises(EngineError, match="something that is no RecipeResponse"):
        client.score("q", ["1"])


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("", None), ("3", 3), ("-3", 0), ("nan", None), ("x", None), ("1.5", 1.5)]
)
def test_retry_after(header, seconds):
    assert retry_after(header) == seconds
