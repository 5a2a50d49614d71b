"""The clients against a real HTTP server that misbehaves: busy, down, slow, dropping connections, talking nonsense."""

from __future__ import annotations

import asyncio
import email.utils
import json
import multiprocessing
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

import vllm_prm.transport
from vllm_prm import load_recipe
from vllm_prm.client import AsyncPRMClient, PRMClient
from vllm_prm.errors import BatchError, PRMError, RecipeError, RequestError
from vllm_prm.results import StepScores
from vllm_prm.transport import checked_url, retry_after

pytestmark = pytest.mark.filterwarnings("error")  # asyncio warns of what was left behind

RECIPE = load_recipe("math-shepherd")
BAD = {"error": {"message": "step 1 of 1 is empty", "type": "BadRequestError", "param": None, "code": 400}}


class Server:
    """Scores steps that are numbers (the step's first logit). `trouble` are answers to give first, in order."""

    def __init__(self) -> None:
        self.trouble: list[str] = []
        self.seen: list[dict] = []
        self.headers: list[dict] = []
        self.now = self.most = 0
        self.recipe = json.loads(RECIPE.to_json())
        self.asked = Counter()
        self.app = FastAPI()
        self.app.get("/v1/prm/recipe")(self.recipe_route)
        self.app.post("/v1/prm/score")(self.score_route)

    async def recipe_route(self, request: Request):
        self.asked["recipe"] += 1
        self.headers.append(dict(request.headers))
        return {"recipe": self.recipe}

    async def score_route(self, request: Request):
        self.asked["score"] += 1
        body = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
            if self.trouble:
                return await self.misbehave(self.trouble.pop(0))
            if body["question"] == "bad":
                return JSONResponse(BAD, 400)
            logits = [[float(step), 0.1] for step in body["steps"]]
            found = StepScores.from_logits(logits, RECIPE)
            entry = {"logits": logits, "step_scores": found.step_scores, "num_prompt_tokens": 9, "num_cached_tokens": 4}
            return {"data": [entry]}
        finally:
            self.now -= 1

    async def misbehave(self, how: str):
        status, _, wait = how.partition(" after ")
        if status.isdigit():
            error = {"message": f"no: {status}", "type": "Trouble", "param": None, "code": int(status)}
            return JSONResponse({"error": error}, int(status), {"Retry-After": wait} if wait else {})
        if how == "slow":
            await asyncio.sleep(3)
        if how == "drop":

            async def half():
                yield b'{"data": ['
                raise ConnectionResetError("the test drops this connection")

            return StreamingResponse(half(), headers={"Content-Length": "100"})
        return PlainTextResponse(how)


@contextmanager
def listening(app) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


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

    monkeypatch.setattr(vllm_prm.transport, "asyncio", type("asyncio", (), {"sleep": record}))
    return slept


def scored(*logits):
    return StepScores.from_logits([[logit, 0.1] for logit in logits], RECIPE, 9, 4)


def test_score_is_complete_and_exact(url, server):
    with PRMClient(url, model="m", priority=3) as client:
        assert client.score("q", ["0.1", "-2.7"]) == scored(0.1, -2.7)
        assert client.recipe == RECIPE
    assert server.seen == [
        {"question": "q", "steps": ["0.1", "-2.7"], "return": "logits", "model": "m", "priority": 3}
    ]  # fmt: skip
    assert server.asked["recipe"] == 1


def test_a_batch_keeps_its_order_and_its_limit(url, server):
    items = [("q", [str(i), str(-i)]) for i in range(100)]
    with PRMClient(url, max_concurrency=5) as client:
        assert client.score_batch(items, progress=False) == [scored(float(i), float(-i)) for i in range(100)]
        assert client.score_batch([], progress=False) == []
    assert 1 < server.most <= 5
    assert server.asked == {"recipe": 1, "score": 100}


def test_a_generator_of_mappings_with_a_progress_bar(url, capfd):
    with PRMClient(url) as client:
        assert client.score_batch({"question": "q", "steps": [str(i)]} for i in range(3)) == [
            scored(float(i)) for i in range(3)
        ]
    assert "Scoring: 100%" in capfd.readouterr().err


def test_bad_items_stay_in_their_place(url, server):
    items = [("q", ["1"]), ("bad", ["1"]), ("q", "text"), ("q",), {"question": 1, "steps": []}, ("q", ["2"])]
    with PRMClient(url) as client:
        results = client.score_batch(items, on_error="return", progress=False)
        assert [isinstance(result, RequestError) for result in results] == [False, True, True, True, True, False]
        assert str(results[1]) == "step 1 of 1 is empty"
        with pytest.raises(BatchError) as failed:
            client.score_batch(items, progress=False)
        assert failed.value.results[5] == scored(2.0)
        assert set(failed.value.errors) == {1, 2, 3, 4}
        with pytest.raises(RequestError, match="step 1 of 1 is empty"):
            client.score("bad", ["1"])
        with pytest.raises(RequestError, match="cannot be written as JSON"):
            client.score("\ud800", ["1"])
        with pytest.raises(RequestError, match="on_error"):
            client.score_batch(items, on_error="ignore")
        with pytest.raises(RequestError, match="items is a str"):
            client.score_batch("q")


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
    with PRMClient(url) as client, pytest.raises(PRMError, match=r"not ready \(HTTP 503, tried once\): no: 503"):
        client.score("q", ["1"])
    assert pauses == []


def test_a_server_that_stays_busy(url, server, pauses):
    server.trouble = ["429"] * 3
    with PRMClient(url, max_retries=2) as client:
        with pytest.raises(PRMError, match=r"overloaded or not ready \(HTTP 429, tried 3 times\): no: 429") as failed:
            client.score("q", ["1"])
        assert not isinstance(failed.value, RequestError)
        assert client.score("q", ["1"]) == scored(1.0)


def test_dropped_connections_are_asked_again_and_lose_nothing(url, server, pauses):
    server.trouble = ["drop"] * 10
    items = [("q", [str(i)]) for i in range(40)]
    with PRMClient(url, max_concurrency=8, max_retries=10) as client:
        assert client.score_batch(items, progress=False) == [scored(float(i)) for i in range(40)]
    assert server.asked["score"] == 50
    server.trouble = ["drop"] * 2
    with PRMClient(url, max_retries=1, max_concurrency=1) as client:
        results = client.score_batch(items[:3], on_error="return", progress=False)
    assert "tried 2 times" in str(results[0])
    assert results[1:] == [scored(1.0), scored(2.0)]


def test_a_slow_server_is_not_asked_twice(url, server):
    server.trouble = ["slow"]
    with PRMClient(url, timeout=0.5) as client:
        results = client.score_batch([("q", ["1"]), ("q", ["2"])], on_error="return", progress=False)
        slow = [result for result in results if isinstance(result, PRMError)]
        assert len(slow) == 1
        assert "did not answer within 0.5 s" in str(slow[0])
        assert "timeout" in str(slow[0])
    assert server.asked["score"] == 2


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
            with pytest.raises(PRMError) as failed:
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
    assert all(isinstance(result, PRMError) for result in results)
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
            with pytest.raises(PRMError, match="start the server with VLLM_PLUGINS=prm") as failed:
                ask()
            assert "/v1/embeddings cannot stand in" in str(failed.value)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, PRMError, "refused the API key"),
        (403, PRMError, "refused the request with HTTP 403: no: 403"),
        (500, PRMError, "failed with HTTP 500: no: 500"),
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
        with pytest.raises(PRMError) as failed:
            client.score("q", ["1"])
        assert url in str(failed.value)
        assert not isinstance(failed.value, RequestError)
        assert client.score("q", ["1"]) == scored(1.0)


def test_never_fewer_scores_than_steps(url, server):
    answer = {"logits": [[1.0, 0.1]], "step_scores": [0.7], "num_prompt_tokens": 1, "num_cached_tokens": 0}
    server.trouble = [json.dumps({"data": [answer]})]
    with PRMClient(url) as client, pytest.raises(PRMError, match="sent 1 scores for 2 steps"):
        client.score("q", ["1", "2"])


def test_a_server_whose_recipe_was_changed(url, server):
    answer = {"logits": [[1.0, 0.1]], "step_scores": [0.3], "num_prompt_tokens": 1, "num_cached_tokens": 0}
    server.trouble = [json.dumps({"data": [answer]})]
    with PRMClient(url) as client, pytest.raises(PRMError, match="make a new client"):
        client.score("q", ["1"])


def test_a_recipe_that_cannot_be_read(url, server):
    server.recipe = {**server.recipe, "from_the_future": 1}
    with PRMClient(url) as client, pytest.raises(RecipeError, match="Install the server's version"):
        client.score("q", ["1"])
    server.recipe = None
    with PRMClient(url) as client, pytest.raises(PRMError, match="sent no recipe"):
        client.score("q", ["1"])


def test_the_key(url, server, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    for key, sent in ((None, None), ("k", "Bearer k")):
        with PRMClient(url, api_key=key) as client:
            assert client.recipe == RECIPE
        assert server.headers[-1].get("authorization") == sent
    monkeypatch.setenv("VLLM_API_KEY", "env")
    with PRMClient(url) as client:
        assert client.recipe == RECIPE
    assert server.headers[-1]["authorization"] == "Bearer env"


def test_addresses():
    for given in ("http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"):
        assert checked_url(given) == "http://h:8000"
    for given in ("h:8000", "localhost", "ftp://h", ""):
        with pytest.raises(RequestError, match="expected an address such as http://localhost:8000"):
            PRMClient(given)
    with pytest.raises(RequestError, match="max_concurrency 0"):
        PRMClient("http://h", max_concurrency=0)


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("", None), ("3", 3), ("-3", 0), ("nan", None), ("x", None), ("1.5", 1.5)]
)
def test_retry_after(header, seconds):
    assert retry_after(header) == seconds


def test_rank_and_reward(url):
    with PRMClient(url) as client:
        ranking = client.rank("q", [["-1"], ["3"], ["2", "1"]])
        assert ranking.order == (1, 2, 0)
        assert client.reward_fn()(prompts=["q"], completions=["1\n-1"]) == [scored(1.0, -1.0).aggregate()]


def test_async_client(url):
    async def everything():
        async with AsyncPRMClient(url) as prm:
            one, many, ranking = await asyncio.gather(
                prm.score("q", ["1"]),
                prm.score_batch([("q", ["2"]), ("bad", ["1"])], on_error="return", progress=False),
                prm.rank("q", [["-1"], ["3"]]),
            )
            with pytest.raises(RequestError, match="candidates"):
                await prm.rank("q", [])
            with pytest.raises(RequestError, match="steps is one string"):
                await prm.score("q", "text")
            return one, many, ranking

    one, many, ranking = asyncio.run(everything())
    assert one == scored(1.0)
    assert many[0] == scored(2.0)
    assert isinstance(many[1], RequestError)
    assert ranking.best == 1


def test_inside_a_running_event_loop_and_from_many_threads(url, server):
    with PRMClient(url) as client:

        async def notebook():
            return client.score("q", ["1"])

        assert asyncio.run(notebook()) == scored(1.0)
        found: dict[int, StepScores] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: client.score("q", [str(i)])})) for i in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {i: scored(float(i)) for i in range(20)}
    assert server.asked["recipe"] == 1


def _in_child(client, answers):
    answers.put(client.score("q", ["1"]))


def test_after_a_fork(url):
    with PRMClient(url) as client:
        assert client.score("q", ["1"]) == scored(1.0)
        fork = multiprocessing.get_context("fork")
        answers = fork.Queue()
        child = fork.Process(target=_in_child, args=(client, answers))
        child.start()
        assert answers.get(timeout=20) == scored(1.0)
        child.join(20)
        assert child.exitcode == 0
        assert client.score("q", ["2"]) == scored(2.0)


def test_closing(url):
    before = threading.active_count()
    client = PRMClient(url)
    assert client.score("q", ["1"]) == scored(1.0)
    client.close()
    client.close()
    with pytest.raises(PRMError, match="closed"):
        client.score("q", ["1"])
    for _ in range(5):
        PRMClient(url)  # not closed, only dropped
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_closing_while_another_thread_waits(url, server):
    server.trouble = ["slow"]
    client = PRMClient(url)
    told: list[PRMError] = []

    def wait():
        try:
            client.score("q", ["1"])
        except PRMError as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not server.now:
        time.sleep(0.01)
    client.close()
    thread.join(2)
    assert "was closed while it waited" in str(told[0])


SCRIPT = """
import sys
from vllm_prm.client import PRMClient
with PRMClient(sys.argv[1], max_concurrency=4) as client:
    client.score_batch([("q", ["1"])] * 1000, progress=False)
"""


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.replace("with ", "client = ").replace(" as client:", "\nif 1:")])
def test_an_interrupt_takes_the_batch_back(url, server, script):
    server.trouble = ["slow"] * 1000
    child = subprocess.Popen([sys.executable, "-c", script, url], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while server.now < 4:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=10)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never" not in said  # asyncio's complaints about tasks and exceptions that were left behind
    assert "pending" not in said
    assert server.asked["score"] == 4
