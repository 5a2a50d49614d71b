"""Planner: which solutions are planned by one call, and whose error is whose."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vllm_prm.engine.serve.planning import Planner
from vllm_prm.errors import RequestError

STEPS = ["a"]


class Plans:
    """Stands in for `scorings`: a solution's Scoring is its question in capitals; it keeps what each call was given."""

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, solutions):
        self.gate.wait()
        self.calls.append([question for question, _ in solutions])
        if any(question == "unforeseen" for question, _ in solutions):
            raise KeyError("unforeseen")
        return [RequestError(question) if question == "bad" else question.upper() for question, _ in solutions]


def planned(questions, plans=None, threads=1):
    """The results of questions asked at once, and what the calls were given."""
    plans = plans or Plans()

    async def ask():
        with ThreadPoolExecutor(threads) as executor:
            planner = Planner(plans, executor, threads)
            asked = (planner.scoring(question, STEPS) for question in questions)
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask()), plans.calls


@pytest.mark.parametrize("threads", [1, 3])
def test_all_that_are_there_are_planned_by_one_call_and_keep_their_order(threads):
    questions = [f"q{i}" for i in range(50)]
    results, calls = planned(questions, threads=threads)
    assert results == [question.upper() for question in questions]
    assert calls == [questions]


def test_a_large_request_is_planned_in_parts():
    questions = [f"q{i}" for i in range(1000)]
    results, calls = planned(questions)
    assert results == [question.upper() for question in questions]
    assert [question for call in calls for question in call] == questions
    assert 1 < len(calls) < 20


def test_an_error_is_its_solutions_alone():
    results, calls = planned(["q", "bad", "r"])
    assert (results[0], results[2]) == ("Q", "R")
    assert isinstance(results[1], RequestError)
    assert len(calls) == 1


def test_an_error_that_nobody_foresaw_reaches_no_other_solution():
    results, _ = planned(["q", "unforeseen", "bad", "r"])
    assert [type(result) for result in results] == [str, KeyError, RequestError, str]


def test_those_that_come_while_the_thread_is_busy_wait_together_and_those_who_left_are_not_planned():
    plans = Plans()
    plans.gate.clear()

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            planner = Planner(plans, executor, 1)
            tasks = []
            for question in ("first", "q", "gone", "r"):
                tasks.append(asyncio.create_task(planner.scoring(question, STEPS)))
                await asyncio.sleep(0.01)  # each begins by itself
            tasks[2].cancel()
            await asyncio.sleep(0)
            plans.gate.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(ask())
    assert plans.calls == [["first"], ["q", "r"]]
    assert results[:2] == ["FIRST", "Q"]
    assert isinstance(results[2], asyncio.CancelledError)


def test_one_that_comes_just_after_the_last_is_not_left_waiting():
    async def ask():
        with ThreadPoolExecutor(1) as executor:
            planner = Planner(Plans(), executor, 1)
            return [await planner.scoring(str(i), STEPS) for i in range(100)]

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == [str(i) for i in range(100)]
