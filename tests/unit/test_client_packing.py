"""Solutions that share a request: how they are packed, and that each gets what it would get by itself."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misbehaving import Server, listening, listening_beside, scored
from responses import score_response, solutions_of

from vllm_prm.client import AsyncPRMClient, PRMClient
from vllm_prm.client.limit import Limit
from vllm_prm.client.packing import CHARACTERS_PER_REQUEST, packed
from vllm_prm.errors import EngineError, RequestError, UnreachableError
from vllm_prm.scores import StepScores

pytestmark = pytest.mark.filterwarnings("error")  # asyncio warns of what was left behind

LARGE = CHARACTERS_PER_REQUEST


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def url(server):
    with listening(server.app) as url:
        yield url


def test_questions_kept_apart_have_sessions_of_their_own(url, server):
    questions = [f"question {number}" for number in range(3)]
    items = [(question, ["1"] * length) for length in (1, 2) for question in questions]

    def sessions(apart):
        """Of each request after the recipe's: its session, and the questions in it."""
        del server.headers[:], server.seen[:]
        with PRMClient(url, keep_questions_apart=apart) as client:
            client.score_batch(items, progress=False)
        headers = [header["x-session-id"] for header in server.headers if "x-session-id" in header]
        return [
            (name, {text for text, _ in solutions_of(body)}) for name, body in zip(headers, server.seen, strict=True)
        ]

    apart = sessions(True)
    assert sorted(len(texts) for _, texts in apart) == [1] * 3
    assert {name for name, _ in apart} == {name for name, _ in sessions(True)}  # the same in another client
    assert len({name for name, _ in apart}) == 3
    assert max(len(texts) for _, texts in sessions(False)) > 1
    with PRMClient(url) as client:
        client.score(questions[0], ["1"])
    assert server.headers[-1]["x-session-id"] in {name for name, texts in apart if texts == {questions[0]}}


def batch(*sizes, question="q{}"):
    """Solutions of as many characters, by index."""
    return {i: (question.format(i), ["x" * (size - 2)]) for i, size in enumerate(sizes)}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1 + LARGE)), max_size=60),
    st.integers(1, 20),
)
def test_every_solution_is_in_one_pack_within_the_bounds(drawn, per_request):
    texts = [str(question) for question, _ in drawn]
    solutions = {3 * i: (texts[i], ["x" * size]) for i, (_, size) in enumerate(drawn)}
    packs = packed(solutions, per_request)
    assert sorted(i for pack in packs for i in pack) == sorted(solutions)
    for pack in packs:
        characters = sum(len(solutions[i][0]) + len(solutions[i][1][0]) for i in pack)
        assert len(pack) == 1 or (len(pack) <= per_request and characters <= LARGE)


@pytest.mark.parametrize(
    ("solutions", "sizes"),
    [
        ({}, []),
        (batch(*[100] * 3), [3]),  # a few small ones: one request costs less than three
        (batch(*[100] * 16), [4, 4, 4, 4]),  # four servers behind one address would all have work
        (batch(*[100] * 200), [16] * 12 + [8]),
        (batch(*[100] * 16, question="qq"), [16]),  # one question: the server computes it once
        (batch(*[100] * 17, question="qq"), [9, 8]),
        (batch(*[LARGE] * 3), [1, 1, 1]),
        (batch(*[2 * LARGE] * 3), [1, 1, 1]),
        (batch(*[LARGE // 2] * 4, question="qq"), [2, 2]),
        (batch(LARGE, 100, 100, LARGE), [1, 2, 1]),
        (batch(100, LARGE, 100, 2 * LARGE, 100), [3, 1, 1]),  # a long one does not end a pack
        (batch(100, LARGE, 100, 2 * LARGE, 100, question="qq"), [3, 1, 1]),
    ],
)
def test_sizes_of_packs(solutions, sizes):
    assert [len(pack) for pack in packed(solutions, 16)] == sizes


def test_solutions_of_one_question_stand_together_wherever_they_were():
    solutions = {i: (f"q{i % 10}", ["1"]) for i in range(80)}
    packs = packed(solutions, 16)
    assert [{i % 10 for i in pack} for pack in packs] == [{2 * k, 2 * k + 1} for k in range(5)]
    assert packs[0] == [*range(0, 80, 10), *range(1, 80, 10)]


def test_the_form_of_a_request(url, server):
    with PRMClient(url, model="m") as client:
        client.score_batch([("q", ["1"]), ("q", ["2"])], progress=False)
        client.score_batch([("q", ["1"]), ("r", ["2"])], progress=False)
        client.rank("q", [["1"]])
    common = {"model": "m", "return": "logits", "encoding_format": "base64"}
    assert server.seen == [
        {"question": "q", "candidates": [["1"], ["2"]], **common},
        {"inputs": [{"question": "q", "steps": ["1"]}, {"question": "r", "steps": ["2"]}], **common},
        {"question": "q", "steps": ["1"], **common},
    ]


@pytest.mark.parametrize("per_request", [1, 3, 16])
def test_each_solution_gets_what_it_would_get_by_itself(url, server, per_request):
    questions = ["q", "bad", "r", "broken", "malformed", "q", "crash", "s"]
    items = [(question, [str(i), str(i + 0.5)]) for i, question in enumerate(questions * 5)]
    with PRMClient(url, solutions_per_request=per_request) as client:
        results = client.score_batch(items, on_error="return", progress=False)
    expected = {
        "bad": (RequestError, "step 1 of 1 is empty"),
        "broken": (EngineError, f"{url}/v1/prm/score failed with HTTP 500: it broke"),
        "malformed": (RequestError, "no such body"),
        "crash": (EngineError, f"{url}/v1/prm/score failed with HTTP 500: the server met a bug"),
    }
    for i, ((question, _), result) in enumerate(zip(items, results, strict=True)):
        if question in expected:
            assert (type(result), str(result)) == expected[question]
        else:
            assert result == scored(i, i + 0.5)


def test_a_body_that_is_too_large_is_cut_until_it_passes(url, server):
    server.longest = 3000
    items = [("q", ["1"] * 100), ("q", ["2"] * 2000)] + [(f"q{i}", ["3"] * 100) for i in range(10)]
    with PRMClient(url) as client:
        results = client.score_batch(items, on_error="return", progress=False)
    assert isinstance(results[1], RequestError)
    assert str(results[1]) == "the body is too large"
    assert results[:1] + results[2:] == [scored(*[1.0] * 100)] + [scored(*[3.0] * 100)] * 10


def test_two_thousand_solutions(url, server):
    rng = random.Random(3)
    items = [(f"q{rng.randrange(400)}", [str(i), *map(str, range(rng.randrange(8)))]) for i in range(2000)]
    with PRMClient(url) as client:
        results = client.score_batch(items, progress=False)
    assert results == [scored(*map(float, steps)) for _, steps in items]
    sent = Counter((question, tuple(steps)) for body in server.seen for question, steps in solutions_of(body))
    assert sent == Counter((question, tuple(steps)) for question, steps in items)
    assert 125 <= server.asked["score"] <= 200
    assert server.most <= 64


def test_a_busy_server_is_asked_again_for_the_whole_request(url, server):
    server.trouble = ["429 after 0", "503 after 0", "drop"]
    items = [(f"q{i}", [str(i)]) for i in range(40)]
    with PRMClient(url, solutions_per_request=10) as client:
        assert client.score_batch(items, progress=False) == [scored(float(i)) for i in range(40)]
    assert server.asked["score"] == 4 + 3
    sent = Counter(json.dumps(body) for body in server.seen)
    assert len(sent) == 4


@pytest.mark.parametrize("indices", [(0, 1), (0, 1, 1), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3), (-1, 0, 1)])
def test_never_the_scores_of_another_solution(url, server, indices):
    response = score_response(*[scored(1.0)] * len(indices))
    for entry, index in zip(response["data"], indices, strict=True):
        entry["index"] = index
    server.trouble = [json.dumps(response)]
    with PRMClient(url) as client:
        results = client.score_batch([("q", ["1"])] * 3 + [("q", [])], on_error="return", progress=False)
        assert [type(result) for result in results] == [EngineError] * 3 + [RequestError]
        message = f"answered with {len(indices)} entries, whose indices are {sorted(indices)}; expected 3, each"
        assert message in str(results[0])
        assert client.score("q", ["1"]) == scored(1.0)


def test_entries_in_another_order_are_put_in_order(url, server):
    response = score_response(scored(1.0), scored(2.0), scored(3.0))
    response["data"].reverse()
    server.trouble = [json.dumps(response)]
    with PRMClient(url) as client:
        results = client.score_batch([("q", [str(i)]) for i in (1, 2, 3)], progress=False)
    assert results == [scored(1.0), scored(2.0), scored(3.0)]


def test_an_entry_that_is_no_answer_costs_only_itself(url, server):
    too_few, other_recipe, without_logits, good = (score_response(scored(1.0))["data"][0] for _ in range(4))
    too_few |= {"step_scores": [], "logits": []}
    other_recipe["step_scores"] = [0.3]
    del without_logits["logits"]
    response = score_response(scored(1.0))
    entries = (too_few, other_recipe, without_logits, good)
    response["data"] = [{**entry, "index": index} for index, entry in enumerate(entries)]
    server.trouble = [json.dumps(response)]
    with PRMClient(url) as client:
        results = client.score_batch([("q", ["1"])] * 4, on_error="return", progress=False)
    assert [type(result) for result in results] == [EngineError, EngineError, EngineError, StepScores]
    for result, message in zip(results, ("sent 0 scores", "make a new client", "0 rows of logits"), strict=False):
        assert message in str(result)


def test_a_server_that_dies_between_packs(server):
    """Those that were answered keep their scores; what is left is asked once, not once per request."""

    async def everything():
        async with listening_beside(server.app) as url:
            client = AsyncPRMClient(url, max_retries=0, max_concurrency=4, solutions_per_request=4)
            task = asyncio.create_task(client.score_batch(items, on_error="return", progress=False))
            while server.asked["score"] < 3:
                await asyncio.sleep(0.001)
            server.trouble = ["drop"] * 1000
        results = await task
        await client.close()
        return results

    items = [("q", [str(i)]) for i in range(1000)]
    results = asyncio.run(everything())
    good = [isinstance(result, StepScores) for result in results]
    assert good == sorted(good, reverse=True)
    assert 8 <= sum(good) < 500
    assert results[: sum(good)] == [scored(float(i)) for i in range(sum(good))]
    assert isinstance(results[-1], UnreachableError)
    assert len({id(result) for result in results if isinstance(result, UnreachableError)}) == 1


def test_after_a_batch_was_given_up_the_client_has_all_its_places(url, server):
    async def everything():
        async with AsyncPRMClient(url, max_concurrency=8, solutions_per_request=4) as client:
            server.trouble = ["slow"] * 2
            task = asyncio.create_task(client.score_batch([("q", ["1"])] * 100, progress=False))
            while server.now < 8:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            return await asyncio.wait_for(client.score_batch([("q", ["1"])] * 100, progress=False), 20)

    assert asyncio.run(everything()) == [scored(1.0)] * 100


def test_threads_share_the_limit(url, server):
    with PRMClient(url, max_concurrency=6, solutions_per_request=4) as client:
        batches: dict[int, list] = {}

        def ask(n):
            items = [("q", [str(n), str(i)]) for i in range(30)]
            batches[n] = [client.score_batch(items, progress=False), client.score("q", [str(n)])]

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n in range(4):
        assert batches[n] == [[scored(float(n), float(i)) for i in range(30)], scored(float(n))]
    assert server.most <= 6


def test_a_large_share_is_not_passed_by_small_ones_for_ever():
    async def everything():
        limit, order = Limit(4), []

        async def hold(name, share):
            await limit.take(share)
            order.append(name)
            await asyncio.sleep(0)
            limit.give_back(share)

        await limit.take(3)
        async with asyncio.TaskGroup() as group:
            group.create_task(hold("large", 4))
            for i in range(5):
                group.create_task(hold(i, 1))
            await asyncio.sleep(0)
            limit.give_back(3)
        return order

    assert asyncio.run(everything())[0] == "large"


def test_a_share_that_is_given_up_while_it_is_collected_is_free_again():
    async def everything():
        limit = Limit(4)
        await limit.take(3)
        waiting = asyncio.create_task(limit.take(4))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        limit.give_back(3)
        await asyncio.wait_for(limit.take(4), 5)

    asyncio.run(everything())
