"""What the drop-ins share: where the server is, one client for each, rewards in any event loop, and what goes wrong."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import os
import socket
import time

import pytest
from fastapi.responses import JSONResponse
from misbehaving import Server, listening
from wire import TOO_LONG, expected, speaking

from vllm_prm import PRMClient
from vllm_prm.errors import BatchError, EngineError, RequestError, UnreachableError
from vllm_prm.integrations.areal import reward_fn
from vllm_prm.integrations.its_hub import ServedPRM
from vllm_prm.integrations.ms_swift import PRMReward
from vllm_prm.integrations.served import Served
from vllm_prm.integrations.verl import compute_score
from vllm_prm.reward import AsyncRewardFunction, Reward
from vllm_prm.scores import StepScores


@pytest.fixture(scope="module")
def url():
    with speaking() as (address, _):
        yield address


@pytest.fixture
def no_one():
    """An address where no one listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def test_an_address_is_asked_for_before_training(monkeypatch, url):
    monkeypatch.delenv("VLLM_PRM_URL", raising=False)
    for make in (Served().awaited, Served().blocking, PRMReward, ServedPRM):
        with pytest.raises(RequestError, match=r"Pass url='http://host:8000', or set VLLM_PRM_URL"):
            make()
    monkeypatch.setenv("VLLM_PRM_URL", url)
    assert ServedPRM().score("q", "a") == pytest.approx(expected(["a"]).aggregate())
    with pytest.raises(RequestError, match="no aggregation 'max'"):
        PRMReward(aggregate="max")
    with pytest.raises(RequestError, match="split is empty"):
        PRMReward(split="")


def test_the_same_options_share_a_client(url):
    first, second = Served(url).awaited(), Served(url).awaited()
    assert first is second
    other = Served(url, aggregate="mean").awaited()
    assert other is not first
    assert other.scorer._client is first.scorer._client  # noqa: SLF001 - connections, which are what costs


def test_the_key_from_an_argument_or_the_environment(monkeypatch):
    app = Server().app

    @app.middleware("http")
    async def guarded(request, call_next):
        right = request.headers.get("authorization") == "Bearer mine"
        return await call_next(request) if right else JSONResponse({"error": "Unauthorized"}, 401)

    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with listening(app) as address:
        assert ServedPRM(address, api_key="mine").score("q", "1") > 0
        with pytest.raises(EngineError, match="refused the API key"):
            ServedPRM(address).score("q", "1")
        monkeypatch.setenv("VLLM_API_KEY", "mine")
        assert ServedPRM(address, aggregate="mean", split="x").score("q", "1") > 0


def test_one_bad_solution_does_not_fail_the_others(url, caplog):
    texts = ["a\nb", TOO_LONG, "c"]
    with caplog.at_level(logging.WARNING):
        rewards = Served(url, split="\n").blocking().rewards(["q"] * 3, texts)
    assert [reward.value is None for reward in rewards] == [False, True, False]
    assert rewards[0].step_scores == pytest.approx(expected(["a", "b"]).step_scores)
    assert rewards[1].error == "step 1 no longer fits"
    assert "no longer fits" in caplog.text
    assert ServedPRM(url, on_error=-1.0).score("q", texts)[1] == -1.0


def test_step_scores_in_any_number_of_event_loops_and_threads(url):
    def asked(number: int) -> float:
        return asyncio.run(compute_score("d", f"a{number}\nb", None, {"question": "q"}, url=url))["score"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(asked, range(40))) == [
            pytest.approx(expected([f"a{number}", "b"]).aggregate()) for number in range(40)
        ]


@pytest.mark.parametrize("drop_in", ["verl", "ms-swift", "its_hub", "areal"])
def test_a_server_that_is_gone_stops_training(no_one, drop_in, monkeypatch):
    monkeypatch.setattr("vllm_prm.client.transport._FIRST_PAUSE_S", 0.001)
    calls = {
        "verl": lambda: asyncio.run(compute_score("d", "a", None, {"question": "q"}, url=no_one)),
        "ms-swift": lambda: asyncio.run(PRMReward(url=no_one)(["a"], messages=["q"])),
        "its_hub": lambda: ServedPRM(no_one).score("q", "a"),
        "areal": lambda: reward_fn("q", "a", url=no_one),
    }
    with pytest.raises(UnreachableError, match="Is the server up"):
        calls[drop_in]()


def test_areal_is_told_in_time_that_no_answer_comes():
    with speaking(most=0) as (address, _):
        begun = time.monotonic()
        with pytest.raises(EngineError, match=r"no reward within 0.3 s.*timeout_seconds"):
            reward_fn("q", "a", url=address, deadline=0.3)
        assert time.monotonic() - begun < 5


def test_a_fork_has_a_client_of_its_own(url):
    served = Served(url)
    mine = served.awaited()
    assert asyncio.run(mine.rewards(["q"], ["a"]))[0].value is not None
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            (reward,) = asyncio.run(served.awaited().rewards(["q"], ["a"]))
            os.write(writing, json.dumps([reward.value, served.awaited() is mine]).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert json.loads(os.read(reading, 1000)) == [pytest.approx(expected(["a"]).aggregate()), False]


def test_awaiting_a_client_that_is_closed_meanwhile():
    with speaking(most=1) as (address, _):  # the recipe, and no solution
        prm = PRMClient(address)

        async def asked():
            waiting = asyncio.create_task(prm.awaited(lambda client: client.score("q", ["a"])))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(prm.close)
            await waiting

        with pytest.raises(EngineError, match="was closed while it waited"):
            asyncio.run(asked())


def test_giving_up_on_an_awaited_answer():
    with speaking(most=1) as (address, _), PRMClient(address) as prm:

        async def asked():
            await asyncio.wait_for(prm.awaited(lambda client: client.score("q", ["a"])), 0.2)

        with pytest.raises(TimeoutError):
            asyncio.run(asked())


def test_an_awaited_reward_function_raises_what_is_not_the_completions_fault(url):
    class Down:
        async def recipe(self):
            from vllm_prm import load_recipe

            return load_recipe("math-shepherd")

        async def score_batch(self, items, *, on_error, progress):
            return [EngineError("the server is gone") for _ in items]

    with pytest.raises(BatchError, match="the server is gone"):
        asyncio.run(AsyncRewardFunction(Down())(["q"], ["a"]))
    assert asyncio.run(AsyncRewardFunction(Down())(["q"], [""])) == [None]  # no one had to be asked


SCORED = StepScores((0.5, 0.25))
FAILED = RequestError("too long")


def test_what_stands_for_a_reward():
    assert Reward(SCORED, "mean").value_or(-1.0) == Reward(SCORED, "mean").value == 0.375
    assert Reward(FAILED, "mean").value_or() == 0
    assert Reward(FAILED, "mean").value_or(-1.0) == Reward(FAILED, "sum_log").value_or(-1.0) == -1
    for result in (SCORED, FAILED):
        with pytest.raises(RequestError, match="sum_log gives 0 to the best"):
            Reward(result, "sum_log").value_or()


def test_logs_have_the_same_names_for_every_completion():
    scored, failed = Reward(SCORED, "min").logs(-1.0), Reward(FAILED, "min").logs(-1.0)
    assert scored == {"prm_steps": 2, "prm_min": 0.25, "prm_mean": 0.375, "prm_last": 0.25, "prm_unscored": 0}
    assert failed == {"prm_steps": 0, "prm_min": -1, "prm_mean": -1, "prm_last": -1, "prm_unscored": 1}
    assert list(scored) == list(failed)
