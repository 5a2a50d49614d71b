"""Two API server processes before two engines: each has our routes, and gives the same scores and refusals.

Either answers alone while the other is stopped, so that what is asked is asked of both. Both send a question's
solutions to the same engine.
"""

from __future__ import annotations

import os
import re
import signal

import httpx
import numpy as np
import pytest
from score_requests import BAD_SCORES, ONE, QUESTION, WRONG
from tiny_server import BLOCK, KEY, LONGEST, RECIPE, SOLUTIONS, ask, ids, started

from vllm_prm import load_recipe
from vllm_prm.client import PRMClient
from vllm_prm.engine.serve.ranks import HEADER


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("servers") / "server.log"


@pytest.fixture(scope="module")
def url(log):
    # Two engines share the machine's memory, so each says how much it takes.
    engines = ["--data-parallel-size", "2", "--gpu-memory-utilization", "0.2", "--max-num-batched-tokens", str(LONGEST)]
    with started(log, "--api-server-count", "2", *engines) as url:
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


def cached(http, steps, question, **headers):
    http.headers.update(headers)
    (entry,) = ask(http, question=question, steps=steps)["data"]
    assert entry["num_prompt_tokens"] > 2 * BLOCK, "too short to be found again"
    return entry["num_cached_tokens"]


LONG = [step for _, steps in SOLUTIONS[:6] for step in steps]
QUESTIONS = [f"{QUESTION} Ada has {number} more." for number in range(6)]


@pytest.fixture(scope="module")
def found():
    """What each of the front ends was told of QUESTIONS, in turn."""
    return []


def test_a_questions_solutions_find_its_engine(http, found):
    """The second front end finds what the first one's requests have computed. By vLLM's balance alone every second
    request would go to the other engine."""
    found.append([cached(http, LONG, question) for question in QUESTIONS])
    found.append([cached(http, [*LONG, "8 + 1 = 9"], question) for question in QUESTIONS])
    assert min(min(row) for row in found[1:]) > 2 * BLOCK, found
    assert min(sent(http).values()) > 0


def test_a_request_names_its_engine(http):
    question = f"{QUESTION} By which of the two?"
    cached(http, LONG, question, **{HEADER: "0"})
    assert cached(http, LONG, question, **{HEADER: "0"}) > 2 * BLOCK
    http.post("/v1/embeddings", json={"model": "tiny", "input": ids(question, LONG)}, headers={HEADER: "1"})
    assert cached(http, LONG, question, **{HEADER: "1"}) > 2 * BLOCK
    http.headers[HEADER] = "2"
    assert "out of range" in ask(http, 400, question=question, steps=LONG)["error"]["message"]
    body = {"model": "tiny", "input": ids(question, LONG)}
    assert http.post("/v1/embeddings", json=body, headers={HEADER: "2"}).status_code == 400


def test_one_question_keeps_both_engines_busy(url):
    """Far more than a batch of solutions to one question, all at once."""
    solutions = [(f"{QUESTION} All of you?", [f"{number} + 1 = {number + 1}", *LONG]) for number in range(64)]
    with httpx.Client(base_url=url, timeout=120) as http, PRMClient(url, api_key=KEY) as client:
        before = sent(http)
        client.score_batch(solutions, progress=False)
        gained = {engine: tokens - before[engine] for engine, tokens in sent(http).items()}
    assert min(gained.values()) > 0.2 * sum(gained.values()), gained


def sent(http) -> dict[str, float]:
    """Tokens that each engine was sent so far."""
    found = re.findall(r'^vllm:prefix_cache_queries_total\{engine="(\d)".*\} (\S+)$', http.get("/metrics").text, re.M)
    return {engine: float(value) for engine, value in found}


def test_both_at_once(url):
    with PRMClient(url, api_key=KEY) as client:
        results = client.score_batch(SOLUTIONS * 5, progress=False)
        expected = client.score(*SOLUTIONS[-1])
    assert [len(result) for result in results] == [len(steps) for _, steps in SOLUTIONS] * 5
    assert results[-1].step_scores == pytest.approx(expected.step_scores, abs=1e-6)
