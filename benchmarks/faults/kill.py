"""A server that dies under load: its engine killed, its worker without memory, itself told to end.

What must hold: every request that is under way ends soon, with right scores, a 5xx that says why, or a closed
connection; the server ends; and `vllm-prm score` goes on when a server is there again.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
from serve import Server

from faults.asks import Ask, any_of, embeddings
from faults.known import Broken, Known
from faults.scored import WAIT_S, wait_for
from faults.server import tree

AT_ONCE_S = 10.0  # after the fault: vLLM's watchdog, which ends a server whose engine is dead, looks every 5 s
GONE_S = 60.0  # all processes of the server, which first waits for its connections


@dataclass(frozen=True)
class End:
    """How a request ended. status: None where the connection did. words: what was said, or wrong."""

    begun: float
    ended: float
    status: int | None
    words: str


class Load:
    """Clients that ask a server on and on, whether it answers or not, in a thread. A context manager.

    ours: of every kind, with scores that are compared; else embeddings, which every server has.
    """

    def __init__(self, url: str, trees: Sequence[Sequence[Known]], clients: int, ours: bool) -> None:
        self.ends: list[End] = []
        self.wrong: list[str] = []
        self.under_way: dict[int, tuple[float, str]] = {}  # by client, since when, and what
        self._url, self._trees, self._clients, self._ours = url, trees, clients, ours
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def until(self, answers: int) -> None:
        wait_for(lambda: len(self.ends) >= answers, f"{answers} answers")

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            clients = [asyncio.create_task(self._client(session, number)) for number in range(self._clients)]
            while not self._stop.is_set():
                await asyncio.sleep(0.05)
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(number)
        while True:
            ask = any_of(self._trees, rng) if self._ours else embeddings([rng.choice(rng.choice(self._trees))])
            begun = time.monotonic()
            self.under_way[number] = (begun, ask.path)
            status, words = await self._asked(session, ask)
            self.ends.append(End(begun, time.monotonic(), status, words))
            del self.under_way[number]
            if status != 200:
                await asyncio.sleep(0.2)

    async def _asked(self, session: aiohttp.ClientSession, ask: Ask) -> tuple[int | None, str]:
        try:
            async with session.post(self._url + ask.path, json=ask.body) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return None, type(error).__name__
        if answer.status == 200 and self._ours:
            try:
                ask.check(200, json.loads(body))
            except Broken as broken:
                self.wrong.append(str(broken))
        return answer.status, body[:200].decode(errors="replace")


def kill_engine(server: Server) -> None:
    _process(server, "VLLM::EngineCore").kill()


def exhaust_memory(server: Server) -> None:
    """The worker gets no more memory from the system than it has: its next large allocation fails."""
    worker = _process(server, "VLLM::Worker")
    worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms,) * 2)


def terminate(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)


def _process(server: Server, title: str) -> psutil.Process:
    """By the title that vLLM gives its processes."""
    for process in tree(server.process.pid):
        if any(part.startswith(title) for part in process.cmdline()[:1]):
            return process
    raise LookupError(
        f"no process {title} below the server; titles: {[p.cmdline()[:1] for p in tree(server.process.pid)]}"
    )


def dies(
    server: Server,
    trees: Sequence[Sequence[Known]],
    fault: Callable[[Server], None],
    clients: int,
    ours: bool = True,
) -> dict[str, Any]:
    """Let a server die under load. Raises Broken for wrong scores.

    `hung` of the figures: requests without an end GONE_S later, by path. ours: whether our routes are asked, or only
    what a server without us has.
    """
    processes = tree(server.process.pid)
    with Load(server.url, trees, clients, ours) as load:
        load.until(5 * clients)
        at = time.monotonic()
        fault(server)
        wait_for(lambda: any(end.status != 200 for end in list(load.ends)), "request that notices", GONE_S)
        noticed = min(end.ended for end in list(load.ends) if end.status != 200)
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(GONE_S)
        now, under_way = time.monotonic(), list(load.under_way.values())
        hung = Counter(path for begun, path in under_way if now - begun > AT_ONCE_S)
    server.process.wait(GONE_S)  # its clients have gone now, if it waited for them
    if load.wrong:
        raise Broken(f"wrong answers: {load.wrong[:3]}")
    ends = [end for end in load.ends if end.begun <= noticed <= end.ended]
    return {
        "under way": len(ends) + sum(hung.values()),
        "ends": dict(Counter(str(end.status or "closed") for end in ends)),
        "hung": dict(hung),
        "noticed_s": round(noticed - at, 2),
        "slowest_s": round(max(end.ended - noticed for end in ends), 2),
        "server gone_s": round(now - at, 1),
        "said": sorted({end.words for end in load.ends if end.status != 200})[:8],
        "left behind": end_rest(processes),
    }


def end_rest(processes: Sequence[psutil.Process]) -> list[str]:
    """The titles of those that do not end soon by themselves. They are ended here."""
    titles = []
    for process in psutil.wait_procs(processes, AT_ONCE_S)[1]:
        with suppress(psutil.NoSuchProcess):
            titles.append(process.cmdline()[0].rpartition("/")[2])
            process.kill()
    return titles
