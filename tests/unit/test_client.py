"""The clients against a real HTTP server: what they send, what they give back, threads, forks, closing, interrupts."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import hears_interrupts
from misbehaving import RECIPE, Server, listening, scored

from vllm_prm.client import AsyncPRMClient, PRMClient
from vllm_prm.client.transport import checked_url
from vllm_prm.errors import BatchError, PRMError, RequestError
from vllm_prm.scores import StepScores

pytestmark = pytest.mark.filterwarnings("error")  # asyncio warns of what was left behind


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def url(server):
    with listening(server.app) as url:
        yield url


def test_score_is_complete_and_exact(url, server):
    with PRMClient(url, model="m", priority=3) as client:
        assert client.score("q", ["0.1", "-2.7"]) == scored(0.1, -2.7)
        assert client.recipe == RECIPE
    form = {"return": "logits", "encoding_format": "base64"}
    assert server.seen == [{"question": "q", "steps": ["0.1", "-2.7"], "model": "m", "priority": 3, **form}]
    assert server.asked["recipe"] == 1


@pytest.mark.parametrize(("per_request", "requests"), [(1, 100), (2, 50), (16, 20)])
def test_a_batch_keeps_its_order_and_its_limit(url, server, per_request, requests):
    items = [("q", [str(i), str(-i)]) for i in range(100)]
    with PRMClient(url, max_concurrency=5, solutions_per_request=per_request) as client:
        assert client.score_batch(items, progress=False) == [scored(float(i), float(-i)) for i in range(100)]
        assert client.score_batch([], progress=False) == []
    assert 1 < server.most <= 5
    assert server.asked == {"recipe": 1, "score": requests}


def test_a_generator_of_mappings_with_a_progress_bar(url, capfd):
    with PRMClient(url) as client:
        assert client.score_batch({"question": "q", "steps": [str(i)]} for i in range(3)) == [
            scored(float(i)) for i in range(3)
        ]
    bar = capfd.readouterr().err
    assert "Scoring: 100%" in bar
    assert "3/3" in bar


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
        with pytest.raises(RequestError, match="half of a surrogate pair"):
            client.score("\ud800", ["1"])
        with pytest.raises(RequestError, match="on_error"):
            client.score_batch(items, on_error="ignore")
        with pytest.raises(RequestError, match="items is a str"):
            client.score_batch("q")


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
    with pytest.raises(RequestError, match="solutions_per_request 0"):
        PRMClient("http://h", solutions_per_request=0)


def test_rank_and_reward(url):
    with PRMClient(url) as client:
        ranking = client.rank("q", [["-1"], ["3"], ["2", "1"]])
        assert ranking.order == (1, 2, 0)
        assert client.reward_fn()(prompts=["q"], completions=["1\n-1"]) == [scored(1.0, -1.0).aggregate()]


def test_a_priority_that_no_server_takes(url):
    with PRMClient(url, priority=2**40) as client, pytest.raises(RequestError, match="priority: .*less than or equal"):
        client.score("q", ["1"])


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
            with pytest.raises(RequestError, match="steps is one text"):
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
    thread.join(20)
    assert "was closed while it waited" in str(told[0])


SCRIPT = """
import sys
from vllm_prm.client import PRMClient
with PRMClient(sys.argv[1], max_concurrency=4, solutions_per_request=int(sys.argv[2])) as client:
    client.score_batch([("q", ["1"])] * 1000, progress=False)
"""


@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.replace("with ", "client = ").replace(" as client:", "\nif 1:")])
@pytest.mark.parametrize(("per_request", "requests"), [(1, 4), (16, 1)])
def test_an_interrupt_takes_the_batch_back(url, server, script, per_request, requests):
    server.trouble = ["slow"] * 1000
    command = [sys.executable, "-c", script, url, str(per_request)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts)
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
    assert server.asked["score"] == requests
