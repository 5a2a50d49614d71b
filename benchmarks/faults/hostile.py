"""Hostile requests, with right ones among them: who is refused, is anything else lost, and does memory stay?

No answer may be a 5xx but a full queue's 503, and no 200 may hold a score that is missing or no finite number. Every
RIGHT_EVERYth request is a right one, whose scores are compared with the reference. A 5xx is kept with its request, so
that the same can be asked of a server without us.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from faults.asks import any_of
from faults.known import Broken, Known
from faults.mutations import Hostile, mutated, raw

RIGHT_EVERY = 10
RAW_EVERY, LEFT_EVERY = 20, 20
PATIENCE_S = 60.0  # for an answer; a second at most if all goes well
AT_ONCE = 16  # requests under way
KEPT = 30  # 5xx answers of different kinds that are kept with their requests
LOST = "closed without an answer"  # to bytes that are no HTTP


@dataclass
class Toll:
    """What became of the requests. sent: by kind. statuses: by path and status."""

    sent: Counter = field(default_factory=Counter)
    statuses: Counter = field(default_factory=Counter)
    broken: dict[str, tuple[str, Hostile]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    largest: float = 0.0
    slowest_s: float = 0.0
    mebibytes: tuple[float, ...] = ()  # of the front end and of what is below it, when all were answered

    @property
    def count(self) -> int:
        return sum(self.sent.values())

    def figures(self) -> dict[str, Any]:
        by_status = Counter()
        for (_, status), count in self.statuses.items():
            by_status[str(status)] += count
        return {
            "sent": self.count,
            "by kind": dict(self.sent),
            "by status": dict(by_status),
            "largest difference": self.largest,
            "slowest_s": round(self.slowest_s, 2),
            "5xx": {name: said for name, (said, _) in self.broken.items()},
            "lost": self.lost[:KEPT],
            "wrong": self.wrong[:KEPT],
        }

    def faults(self, without_us: dict[str, int]) -> list[str]:
        """Sentences about what does not hold. without_us: the status of a 5xx's request on a server of vLLM's alone."""
        sentences = [
            f"{name}: without us {without_us.get(name)}" for name in self.broken if without_us.get(name, 0) < 500
        ]
        sentences += [f"{len(self.lost)} requests got no answer; the first: {self.lost[0]}"] if self.lost else []
        return sentences + ([f"{len(self.wrong)} wrong answers; the first: {self.wrong[0]}"] if self.wrong else [])


def requests(trees: Sequence[Sequence[Known]], seed: int, schema: Iterator[Hostile] | None) -> Iterator[Hostile]:
    """schema: those that schemathesis draws, every second one; None: mutations only."""
    rng = random.Random(seed)
    while True:
        yield mutated(trees, rng)
        if schema is not None:
            yield next(schema)


async def storm(
    url: str,
    trees: Sequence[Sequence[Known]],
    sources: Iterator[Hostile],
    count: int,
    tell: Callable[[Toll], None],
    seed: int = 0,
) -> Toll:
    """Send `count` requests. tell: is called with what became of them so far, twice a minute."""
    toll, rng = Toll(), random.Random(seed)
    last = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        under_way: set[asyncio.Task[None]] = set()
        for number in range(count):
            if number % RIGHT_EVERY == 0:
                work = _right(session, url, trees, rng, toll)
            elif number % RAW_EVERY == 1:
                work = _raw(url, raw(trees, rng), toll)
            elif number % LEFT_EVERY == 2:
                work = _left(url, trees, rng, toll)
            else:
                work = _hostile(session, url, await asyncio.to_thread(next, sources), toll)
            under_way.add(asyncio.create_task(work))
            while len(under_way) >= AT_ONCE:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            if time.monotonic() - last > 30:
                tell(toll)
                last = time.monotonic()
        await asyncio.gather(*under_way)
    return toll


async def again(url: str, broken: dict[str, tuple[str, Hostile]]) -> dict[str, int]:
    """The statuses of these requests on another server, by name."""
    statuses = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        for name, (_, hostile) in broken.items():
            if hostile.method:  # raw bytes are no request
                target = URL(url + hostile.path, encoded=True)
                sent = session.request(hostile.method, target, data=hostile.content, headers=hostile.headers)
                async with sent as answer:
                    statuses[name] = answer.status
    return statuses


async def _right(
    session: aiohttp.ClientSession, url: str, trees: Sequence[Sequence[Known]], rng: random.Random, toll: Toll
) -> None:
    ask = any_of(trees, rng)
    toll.sent["right"] += 1
    begun = time.monotonic()
    try:
        async with session.post(url + ask.path, json=ask.body) as answer:
            body = await answer.read()
        toll.largest = max(toll.largest, ask.check(answer.status, json.loads(body) if answer.status == 200 else body))
    except (aiohttp.ClientError, TimeoutError) as error:
        toll.wrong.append(f"{ask.path} gave no answer to a request that is right: {error!r}")
    except Broken as broken:
        toll.wrong.append(str(broken))
    toll.slowest_s = max(toll.slowest_s, time.monotonic() - begun)


async def _hostile(session: aiohttp.ClientSession, url: str, hostile: Hostile, toll: Toll) -> None:
    toll.sent[hostile.kind] += 1
    begun = time.monotonic()
    try:
        target = URL(url + hostile.path, encoded=True)
        async with session.request(
            hostile.method, target, data=hostile.content, headers=hostile.headers, allow_redirects=False
        ) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json"  # vLLM's embeddings may be asked for as bytes
    except (ValueError, TypeError):  # a header that aiohttp does not send: nothing was asked
        toll.sent["not sent: " + hostile.kind] += 1
        toll.sent[hostile.kind] -= 1
        return
    except (aiohttp.ClientError, TimeoutError) as error:
        toll.lost.append(f"{hostile.method} {hostile.path} ({hostile.kind}): {error!r} {hostile.content[:300]!r}")
        return
    toll.slowest_s = max(toll.slowest_s, time.monotonic() - begun)
    path = hostile.path.partition("?")[0]
    toll.statuses[path, answer.status] += 1
    if answer.status >= 500 and answer.status != 503:
        kind = f"{path} {answer.status} {body[:80].decode(errors='replace')}"
        if len(toll.broken) < KEPT:
            toll.broken.setdefault(kind, (body[:500].decode(errors="replace"), hostile))
    elif answer.status == 200 and is_json and (fault := wrong_scores(hostile, body)):
        toll.wrong.append(f"{path}: {fault}: {hostile.content[:300]!r} -> {body[:300]!r}")


def wrong_scores(hostile: Hostile, body: bytes) -> str | None:
    """What is wrong with an answer of 200: a number that is none, or fewer scores than steps. None: nothing."""
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except ValueError as error:
        return f"the answer is no JSON ({error})"
    if (number := _not_finite(answer)) is not None:
        return f"{number} in the answer"
    if (hostile.method, hostile.path) != ("POST", "/v1/prm/score"):
        return None
    asked = json.loads(hostile.content)
    lists = [asked["steps"]] if asked.get("steps") is not None else asked.get("candidates")
    lists = (
        lists if lists is not None else [one.get("steps") if isinstance(one, dict) else None for one in asked["inputs"]]
    )
    entries = answer["data"]
    if len(entries) != len(lists):
        return f"{len(entries)} entries for {len(lists)} solutions"
    for entry, steps in zip(entries, lists, strict=True):
        if entry["object"] == "prm.score" and len(entry["step_scores"]) != len(steps):
            return f"{len(entry['step_scores'])} scores for {len(steps)} steps"
    return None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _not_finite(value: Any) -> float | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for part in parts if (found := _not_finite(part)) is not None), None)


async def _raw(url: str, content: bytes, toll: Toll) -> None:
    """What comes back, if anything does, begins with a status below 500. Then the connection is closed."""
    toll.sent["raw bytes"] += 1
    answer = await exchange(url, content, wait_s=0.5)
    if answer[:5] == b"HTTP/" and (status := answer[9:12]).isdigit():
        toll.statuses["raw", int(status)] += 1
        if status >= b"500" and status != b"503":
            toll.broken.setdefault(
                f"raw {status.decode()}", (repr(answer[:300]), Hostile("raw bytes", "", "", content))
            )
    else:
        toll.statuses["raw", LOST] += 1


async def _left(url: str, trees: Sequence[Sequence[Known]], rng: random.Random, toll: Toll) -> None:
    """A right request whose client goes: in the middle of the body, or while it is answered."""
    ask = any_of(trees, rng)
    toll.sent["left"] += 1
    content = json.dumps(ask.body).encode()
    head = f"POST {ask.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    whole = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    sent = whole if rng.random() < 0.5 else whole[: len(whole) - rng.randrange(1, len(content))]
    await exchange(url, sent, wait_s=rng.uniform(0, 0.05))


async def exchange(url: str, content: bytes, wait_s: float) -> bytes:
    """Send bytes, and take what has come back after `wait_s` seconds. Then the connection is reset."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    answer = b""
    try:
        writer.write(content)
        async with asyncio.timeout(wait_s):
            await writer.drain()
            while part := await reader.read(4096):
                answer += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answer
