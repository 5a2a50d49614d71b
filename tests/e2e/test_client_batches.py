"""Batches of the client on a real server: solutions that share requests get what each gets by itself."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import httpx
import pytest
from conftest import ROOT, hears_interrupts
from score_requests import QUESTION, RIGHT, WRONG
from tiny_server import SOLUTIONS, metric

from vllm_prm.client import PRMClient
from vllm_prm.errors import PRMError, RequestError

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import solution  # noqa: E402 - examples are no package

TOO_LONG = ["1 + 1 = 2"] * 100_000


@pytest.fixture(scope="module")
def client(tiny_prm_url):
    with PRMClient(tiny_prm_url) as client:
        yield client


@pytest.fixture(scope="module")
def singly(tiny_prm_url):
    """A client that sends every solution by itself."""
    with PRMClient(tiny_prm_url, solutions_per_request=1) as client:
        yield client


@pytest.fixture
def requests(monkeypatch):
    """The bodies that clients send, read where they leave."""
    bodies: list[str] = []
    send = httpx.AsyncClient.send

    async def record(self, request, **options):
        if request.content:
            bodies.append(request.content.decode())
        return await send(self, request, **options)

    monkeypatch.setattr(httpx.AsyncClient, "send", record)
    return bodies


def assert_same(results, expected):
    for result, other in zip(results, expected, strict=True):
        if isinstance(other, PRMError):
            assert (type(result), str(result)) == (type(other), str(other))
        else:
            assert result.step_scores == pytest.approx(other.step_scores, abs=1e-6)  # float32, batched otherwise
            assert result.num_prompt_tokens == other.num_prompt_tokens


def test_good_and_bad_in_one_request(client, singly, requests):
    items = [*SOLUTIONS[:7], (QUESTION, TOO_LONG), *SOLUTIONS[7:20], (QUESTION, []), (QUESTION, WRONG)]
    expected = singly.score_batch(items, on_error="return", progress=False)
    assert len(requests) == 22
    results = client.score_batch(items, on_error="return", progress=False)
    assert len(requests) < 22 + 8
    assert_same(results, expected)
    assert [i for i, result in enumerate(results) if isinstance(result, PRMError)] == [7, 21]
    assert isinstance(results[7], RequestError)


def test_candidates_of_one_question_in_one_request(client, singly, requests):
    candidates = [WRONG, RIGHT, TOO_LONG, RIGHT[:1], WRONG[:2]]
    items = [(QUESTION, steps) for steps in candidates]
    results = client.score_batch(items, on_error="return", progress=False)
    assert [body.count(QUESTION) for body in requests] == [1, 1]  # the long one has a request of its own
    assert_same(results, singly.score_batch(items, on_error="return", progress=False))
    ranking = client.rank(QUESTION, [WRONG, RIGHT])
    assert ranking.order == (1, 0)
    assert len(requests) == 2 + 5 + 1


def test_two_thousand_solutions_keep_their_order(client, singly, requests):
    rng = random.Random(21)
    made = [solution(rng, mistakes=n % 2) for n in range(2000)]
    items = [(line.question, list(line.steps)) for line in made]
    results = client.score_batch(items, progress=False)
    assert len(requests) < 200
    for (_, steps), result in zip(items, results, strict=True):
        assert len(result) == len(steps)
    sample = rng.sample(range(2000), 100)
    assert_same([results[i] for i in sample], singly.score_batch([items[i] for i in sample], progress=False))


SCRIPT = """
import sys
from vllm_prm.client import PRMClient
with PRMClient(sys.argv[1]) as client:
    client.score_batch([(str(n), ["1 + 1 = 2"] * 20) for n in range(100_000)], progress=False)
"""


def test_an_interrupt_takes_the_requests_back(tiny_prm_url, client):
    with httpx.Client(base_url=tiny_prm_url, timeout=60) as http:

        def under_way():
            return metric(http, "vllm:num_requests_waiting{") + metric(http, "vllm:num_requests_running{")

        command = [sys.executable, "-c", SCRIPT, tiny_prm_url]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts)
        deadline = time.monotonic() + 60
        while under_way() == 0:
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=30)
        assert stderr.rstrip().endswith("KeyboardInterrupt")
        deadline = time.monotonic() + 20
        while (left := under_way()) > 0:
            assert time.monotonic() < deadline, f"{left} requests are still there"
            time.sleep(0.2)
    assert client.score(QUESTION, WRONG).first_error() == 1
