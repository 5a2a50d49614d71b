"""Which engine of a data-parallel server a solution goes to: its question's, unless that has a batch more to do."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from vllm_prm.engine.serve.ranks import HEADER, Engines, RankHeader, follow_ranks
from vllm_prm.prompts import Prompt

BATCH = 2048


class Engine:
    """Stands for vLLM's AsyncLLM: remembers the rank of what is added; `gate` holds the answers back."""

    def __init__(self) -> None:
        self.ranks = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def add_request(self, data_parallel_rank=None):
        self.ranks.append(data_parallel_rank)
        await self.gate.wait()


class Server:
    """A front end: asks for solutions of so many tokens, of which the engine finds so many in its cache."""

    def __init__(self, count=2, front_ends=1) -> None:
        parallel = SimpleNamespace(
            data_parallel_size=count,
            data_parallel_size_local=1,
            local_engines_only=False,
            _api_process_count=front_ends,
        )
        scheduler = SimpleNamespace(max_num_batched_tokens=BATCH)
        self.parallel = parallel
        self.engines = Engines(SimpleNamespace(parallel_config=parallel, scheduler_config=scheduler))
        self.engine = Engine()
        follow_ranks(self.engine)

    async def ask(self, question, num_tokens=100, num_cached=0, error=None):
        async def answers():
            await self.engine.add_request()
            if error is not None:
                raise error
            return [(None, num_cached)]

        prompts = [Prompt(tuple(range(num_tokens)), (num_tokens - 1,))]
        return await self.engines.ask(question, prompts, answers())

    async def burst(self, questions, num_tokens=100, num_cached=0) -> Counter:
        """All at once; how many went where."""
        self.engine.ranks.clear()
        self.engine.gate.clear()
        tasks = [asyncio.create_task(self.ask(question, num_tokens, num_cached)) for question in questions]
        await asyncio.sleep(0)
        self.engine.gate.set()
        await asyncio.gather(*tasks)
        return Counter(self.engine.ranks)


def test_a_question_has_one_engine_in_every_front_end():
    async def ranks(server):
        for question in questions:
            await server.ask(question)
        return server.engine.ranks

    async def both():
        return await ranks(Server()), await ranks(Server(front_ends=4))

    questions = [f"How many are {i // 3} and 4?" for i in range(600)]
    one, other = asyncio.run(both())
    assert one == other
    assert one[::3] == one[1::3] == one[2::3]
    assert 75 < sum(one[::3]) < 125  # of 200 questions about half: 25 is 3.5 standard deviations


def test_all_engines_are_used():
    async def ranks():
        server = Server(count=8)
        for i in range(400):
            await server.ask(f"{i} + 1?")
        return Counter(server.engine.ranks)

    assert sorted(asyncio.run(ranks())) == list(range(8))


def test_one_question_keeps_all_engines_busy():
    async def spread(front_ends):
        return await Server(count=4, front_ends=front_ends).burst(["?"] * 200)

    for front_ends in (1, 2):
        counts = asyncio.run(spread(front_ends))
        bound = BATCH / front_ends / 100 + 1
        assert sum(counts.values()) == 200
        assert len(counts) == 4
        assert max(counts.values()) - min(counts.values()) <= bound


def test_less_than_a_batch_stays_together():
    async def spread():
        return await Server(count=4).burst(["?"] * (BATCH // 100))

    assert len(asyncio.run(spread())) == 1


def test_what_the_last_answer_found_cached_is_not_to_do():
    async def spreads():
        server = Server()
        first = await server.burst(["?"] * 4, 500, 480)
        return first, await server.burst(["?"] * 40, 530, 500), await server.burst(["?"] * 40, 200)

    first, search, others = asyncio.run(spreads())
    assert len(first) == len(search) == 1  # 40 times 50 tokens, of 21,200 that are sent
    assert len(others) == 2  # shorter than what was cached: they do not go on from it


def test_a_failure_is_no_longer_to_do():
    async def rank():
        server = Server()
        for _ in range(50):
            with pytest.raises(ValueError, match="too long"):
                await server.ask("?", 500, error=ValueError("too long"))
        return set(server.engine.ranks)

    assert len(asyncio.run(rank())) == 1


def test_one_engine_is_not_told_a_rank():
    async def ranks():
        server = Server(count=1)
        await server.ask("?")
        server.parallel.data_parallel_size, server.parallel.local_engines_only = 8, True  # seven are other servers'
        await server.ask("?")
        return server.engine.ranks

    assert asyncio.run(ranks()) == [None, None]


@pytest.mark.parametrize(
    ("value", "rank"), [(b"5", 5), (b"", None), (b"-1", None), (b"one", None), (b"9" * 5000, None), (b"\xb2", None)]
)
def test_a_request_names_its_engine(value, rank):
    async def ranks():
        server = Server(count=8)

        async def app(scope, receive, send):
            await asyncio.gather(*(server.ask(f"{i}?") for i in range(5)))
            await server.engine.add_request()  # vLLM's own routes ask so
            await server.engine.add_request(data_parallel_rank=3)  # and for generation they read the header themselves

        await RankHeader(app)({"type": "http", "headers": [(HEADER.lower().encode(), value)]}, None, None)
        await server.ask("0?")
        return server.engine.ranks

    *asked, at_vllms, at_generation, after = asyncio.run(ranks())
    assert (at_vllms, at_generation) == (rank, 3)
    assert set(asked) == {5} if rank else len(set(asked)) > 1
    assert after == asyncio.run(_home("0?", 8))


async def _home(question, count):
    server = Server(count)
    await server.ask(question)
    return server.engine.ranks[0]
