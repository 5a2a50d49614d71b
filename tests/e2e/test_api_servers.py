"""Two API server processes before one engine: each has our routes, and gives the same scores and refusals.

Either answers alone while the other is stopped, so that what is asked is asked of both.
"""

from __future__ import annotations

import os
import re
import signal

import httpx
import numpy as np
import pytest
from score_requests import BAD_SCORES, ONE, QUESTION, WRONG
from tiny_server import KEY, LONGEST, RECIPE, SOLUTIONS, ask, ids, started

from vllm_prm import load_recipe
from vllm_prm.client import PRMClient


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("servers") / "server.log"


@pytest.fixture(scope="module")
def url(log):
    with started(log, "--api-server-count", "2") as url:
        yield url


@pytest.fixture(params=[0, 1])
def http(url, log, request):
    """A client of one of the two: they accept connections from one socket, and the other is stopped."""
    pids = sorted({int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", log.read_text())})
    assert len(pids) == 2, pids
    os.kill(pids[1 - request.param], signal.SIGSTOP)
    try:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as http:
            yield http
    finally:
        os.kill(pids[1 - request.param], signal.SIGCONT)


def test_each_gives_the_scores_of_embeddings(http):
    body = {"model": "tiny", "input": [ids(*solution) for solution in SOLUTIONS], "encoding_format": "float"}
    embeddings = http.post("/v1/embeddings", json=body).json()["data"]
    inputs = [{"question": question, "steps": steps} for question, steps in SOLUTIONS]
    for entry, item in zip(ask(http, inputs=inputs)["data"], embeddings, strict=True):
        assert np.abs(np.array(entry["step_scores"]) - item["embedding"]).max() < 1e-6


def test_each_tells_the_recipe(http):
    answer = http.get("/v1/prm/recipe").json()
    assert answer["max_model_len"] == LONGEST
    assert load_recipe(answer["recipe"]) == RECIPE


def test_each_refuses(http):
    for body, message, _ in BAD_SCORES[:8]:
        assert message in ask(http, 400, **body)["error"]["message"]
    assert ask(http, 404, **ONE, model="other")["error"]["type"] == "NotFoundError"
    assert http.post("/v1/prm/score", json=ONE, headers={"Authorization": ""}).status_code == 401


def test_each_gives_rewards(http):
    text = "\n".join(f"Step {k}: {step}" for k, step in enumerate(WRONG, 1))
    answer = http.post("/get_reward", json={"query": [f"{QUESTION} {text}"], "prompts": [QUESTION]}).json()
    (entry,) = ask(http, question=QUESTION, steps=WRONG)["data"]
    assert answer["step_scores"][0] == pytest.approx(entry["step_scores"], abs=1e-6)


def test_both_at_once(url):
    with PRMClient(url, api_key=KEY) as client:
        results = client.score_batch(SOLUTIONS * 5, progress=False)
        expected = client.score(*SOLUTIONS[-1])
    assert [len(result) for result in results] == [len(steps) for _, steps in SOLUTIONS] * 5
    assert results[-1].step_scores == pytest.approx(expected.step_scores, abs=1e-6)
