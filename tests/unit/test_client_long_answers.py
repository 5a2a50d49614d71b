"""Answers that are none: longer than any, packed so that a few bytes become too many, or not packed as they say."""

from __future__ import annotations

import gzip
import json

import pytest
from fastapi import FastAPI, Response
from misbehaving import RECIPE, Server, listening, scored
from responses import recipe_response, score_response

import vllm_prm.client.transport
from vllm_prm.client import PRMClient
from vllm_prm.errors import EngineError

LONGEST = 100_000  # bytes; a recipe's answer has some 2,000


def answering(content: bytes, encoding: str | None) -> FastAPI:
    """A server whose recipe is right, and whose scores are this."""
    app = FastAPI()
    app.get("/v1/prm/recipe")(lambda: recipe_response(RECIPE))

    @app.post("/v1/prm/score")
    def score() -> Response:
        headers = {"Content-Encoding": encoding} if encoding else {}
        return Response(content, media_type="application/json", headers=headers)

    return app


@pytest.fixture(autouse=True)
def shorter(monkeypatch):
    monkeypatch.setattr(vllm_prm.client.transport, "_LONGEST_ANSWER", LONGEST)


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_an_answer_that_is_too_long_is_given_up(encoding):
    content = b" " * (50 * LONGEST)
    with (
        listening(answering(gzip.compress(content) if encoding else content, encoding)) as url,
        PRMClient(url) as client,
    ):
        with pytest.raises(EngineError, match="answers with more than .* MiB, which is no answer to this request"):
            client.score("q", ["1"])
        with pytest.raises(EngineError, match="more than"):  # and the connection's place is free again
            client.score("q", ["1"])


def test_an_answer_that_does_not_unpack():
    with listening(answering(b"{}", "gzip")) as url, PRMClient(url) as client:
        with pytest.raises(EngineError, match="does not unpack as its Content-Encoding says"):
            client.score("q", ["1"])
        results = client.score_batch([("q", ["1"]), ("q", ["2"])], on_error="return", progress=False)
    assert [type(result) for result in results] == [EngineError] * 2


def test_a_packed_answer_is_read():

    content = json.dumps(score_response(scored(1.0))).encode()
    with listening(answering(gzip.compress(content), "gzip")) as url, PRMClient(url) as client:
        assert client.score("q", ["1"]) == scored(1.0)


def test_an_answer_of_usual_length_is_read():
    server = Server()
    with listening(server.app) as url, PRMClient(url) as client:
        assert client.score("q", ["1"]) == scored(1.0)
