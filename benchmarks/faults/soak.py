"""An hour of right requests, many at once, some of which are left alone: is every answer right, and does memory stay?

The engine has room for a few of the prompts that are under way, so it evicts what it has cached and preempts what it
has begun. What is asked for is drawn at random from searches, of every kind of request that there is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from faults.asks import Ask, any_of
from faults.known import Broken, Known

# 48 blocks of 32 tokens are 4 to 20 of the prompts under way. Eight advance side by side, and the scheduler starts them
# whether they have room to end or not: so it must preempt (as in tests/e2e/test_preemption.py).
TIGHT = {
    "num_gpu_blocks_override": 48,
    "enable_chunked_prefill": True,
    "max_num_batched_tokens": 512,
    "long_prefill_token_threshold": 64,
    "scheduler_reserve_full_isl": False,
}
LATEST_LEAVE_S = 0.5  # a client that leaves does so at a random time up to this one: most answers take longer
SHOWN = 20  # wrong answers that are kept, in words
GIVE_UP_S = 120  # for one answer: with 64 under way it takes a second or two


@dataclass
class Tally:
    asked: Counter = field(default_factory=Counter)  # by path
    answered: Counter = field(default_factory=Counter)
    scores: int = 0
    left: int = 0
    largest: float = 0.0
    wrong: Counter = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def fault(self, kind: str, words: str) -> None:
        self.wrong[kind] += 1
        if len(self.words) < SHOWN:
            self.words.append(words)

    def figures(self) -> dict[str, Any]:
        return {
            "asked": sum(self.asked.values()),
            "answered": sum(self.answered.values()),
            "answered by path": dict(self.answered),
            "step scores compared": self.scores,
            "left": self.left,
            "largest difference": self.largest,
            "slowest_s": round(self.slowest_s, 2),
            "wrong": dict(self.wrong),
            **({"words": self.words} if self.words else {}),
        }


async def load(
    url: str,
    trees: Sequence[Sequence[Known]],
    seconds: float,
    concurrency: int,
    leaving: float,
    tell: Callable[[Tally, float], None],
) -> Tally:
    """Ask for `seconds`, with `concurrency` requests under way. leaving: the share of them that nobody waits for.

    tell: is called about twice a minute with the tally so far and the seconds that have passed.
    """
    tally, begun = Tally(), time.monotonic()
    timeout = aiohttp.ClientTimeout(total=GIVE_UP_S)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def client(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() - begun < seconds:
                await _ask(session, any_of(trees, rng), rng, leaving, tally)

        async def teller() -> None:
            while True:
                await asyncio.sleep(30)
                tell(tally, time.monotonic() - begun)

        telling = asyncio.create_task(teller())
        try:
            await asyncio.gather(*(client(number) for number in range(concurrency)))
        finally:
            telling.cancel()
    return tally


async def _ask(session: aiohttp.ClientSession, ask: Ask, rng: random.Random, leaving: float, tally: Tally) -> None:
    path = ask.path.partition("?")[0]
    tally.asked[path] += 1
    begun = time.monotonic()
    waiting = asyncio.create_task(_answer(session, ask))
    if rng.random() < leaving:
        await asyncio.wait([waiting], timeout=rng.uniform(0, LATEST_LEAVE_S))
        if not waiting.done():
            waiting.cancel()  # aiohttp closes the connection
            await asyncio.wait([waiting])
            tally.left += 1
            return
    try:
        status, answer = await waiting
        tally.largest = max(tally.largest, ask.check(status, answer))
    except Broken as broken:
        tally.fault(f"{path}: {broken.__class__.__name__}", str(broken))
        return
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        tally.fault(f"{path}: {type(error).__name__}", f"{path}: {error!r}")
        await asyncio.sleep(0.1)  # a server that is gone is not asked a million times
        return
    tally.answered[path] += 1
    tally.scores += sum(map(len, ask.expected))
    tally.slowest_s = max(tally.slowest_s, time.monotonic() - begun)


async def _answer(session: aiohttp.ClientSession, ask: Ask) -> tuple[int, Any]:
    async with session.post(ask.path, json=ask.body) as answer:
        body = await answer.read()
        return answer.status, await answer.json() if answer.status == 200 else body.decode(errors="replace")
