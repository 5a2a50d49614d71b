"""Clients that send little, late, or far too much: is what they cost bounded, and is everybody else answered meanwhile?

And the other way round: a server that sends a client more than it can hold.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

from faults.asks import one
from faults.known import Broken, Known
from faults.server import MIB, tree

DRIPPING, DRIP_S, DRIPS = 50, 0.1, 20  # connections, seconds between parts, parts: two seconds in all
HALF_OPEN = 200  # connections that say the beginning of a request and then nothing
MANY_STEPS = 10_000
LONG_BODY = 10_000_000  # bytes
BOMB = 200_000_000  # bytes that some 200 kB become
BOUND_S = 20.0  # for an answer to any of them, and to a right request meanwhile: a second or two if all goes well
BOUND_MIB = 400  # that the server grows by: the body, what JSON's parser makes of it, and its tokens
CLIENT_MIB = 3_000  # address space of a client that meets a bomb: without a bound it would want more
WATCH_S = 0.02


def dripping(url: str, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """Bodies that come in parts, slowly; all of them are right, and are answered."""
    ask = one(trees[0][0])
    content = json.dumps(ask.body).encode()

    async def drip() -> float:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = f"POST {ask.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        size = -(-len(content) // DRIPS)
        for at in range(0, len(content), size):
            await asyncio.sleep(DRIP_S)
            writer.write(content[at : at + size])
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        return ask.check(status, json.loads(body) if status == 200 else body)

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*(drip() for _ in range(DRIPPING)))

    return _meanwhile(url, trees, lambda: {"largest difference": max(asyncio.run(all_of_them()))})


def half_open(url: str, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """Connections that never say what they want, half of them in the middle of a body. They cost nobody anything."""

    async def opened() -> int:
        parts = urlsplit(url)
        writers = []
        for number in range(HALF_OPEN):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            said = b"POST /v1/prm/score HTTP/1.1\r\nHost: x\r\nContent-Le"
            body = b"ngth: 1000\r\nContent-Type: application/json\r\n\r\n{"
            writer.write(said + (body if number % 2 else b""))
            writers.append(writer)
        await asyncio.sleep(2.0)  # `_meanwhile` asks
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    return _meanwhile(url, trees, lambda: {"connections": asyncio.run(opened())})


def long_bodies(url: str, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """10 MB and 10,000 steps: refused with a sentence, by every route of ours."""
    question = trees[0][0].question
    long = "5 + 5 = 10 " * (LONG_BODY // 11)
    figures: dict[str, Any] = {}

    def asked() -> dict[str, Any]:
        with httpx.Client(base_url=url, timeout=BOUND_S) as http:
            for name, path, body in (
                ("10 MB, a step", "/v1/prm/score", {"question": question, "steps": [long]}),
                ("10 MB, the question", "/v1/prm/score", {"question": long, "steps": ["1 + 1 = 2"]}),
                ("10 MB, a query", "/get_reward", {"query": [long]}),
                ("10 MB, a solution", "/v1/prm/prompts", {"question": question, "solution": long}),
                ("10,000 steps", "/v1/prm/score", {"question": question, "steps": ["1 + 1 = 2"] * MANY_STEPS}),
                ("10,000 steps, to look at", "/v1/prm/prompts", {"question": question, "steps": ["1"] * MANY_STEPS}),
            ):
                figures[name] = _refused(http, path, json.dumps(body).encode(), {})
        return figures

    return _meanwhile(url, trees, asked)


def bomb_to_server(url: str, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """A body that says it is compressed, and would be long. Nothing of ours or vLLM's unpacks bodies: it is no JSON."""
    packed = gzip.compress(b'{"question": "' + b"a" * BOMB)

    def asked() -> dict[str, Any]:
        with httpx.Client(base_url=url, timeout=BOUND_S) as http:
            return {
                name: _refused(http, "/v1/prm/score", packed, {"Content-Encoding": name})
                for name in ("gzip", "deflate", "br")
            }

    return _meanwhile(url, trees, asked)


def _refused(http: httpx.Client, path: str, content: bytes, more: dict[str, str]) -> str:
    begun = time.monotonic()
    try:
        answer = http.post(path, content=content, headers={"Content-Type": "application/json", **more})
    except httpx.HTTPError as error:
        raise Broken(f"{path} gave no answer to {len(content)} bytes within {BOUND_S} s: {error!r}") from error
    seconds = time.monotonic() - begun
    if answer.status_code not in (400, 413, 415, 422):
        raise Broken(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    if not answer.json()["error"]["message"]:
        raise Broken(f"{path} answered {answer.status_code} and does not say why")
    return f"{answer.status_code} in {seconds:.2f} s"


def _meanwhile(url: str, trees: Sequence[Sequence[Known]], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it, with right requests and looks at the server's memory at the same time. Raises Broken out of bounds."""
    with _watched(url, trees) as watch:
        figures = work()
    grown = max(watch["mebibytes"]) - watch["mebibytes"][0]
    slowest_s = max(watch["seconds"])
    figures |= {
        "others answered": len(watch["seconds"]),
        "others' slowest_s": round(slowest_s, 2),
        "MiB more": round(grown),
    }
    if watch["wrong"] or slowest_s > BOUND_S:
        raise Broken(f"others were not answered: {watch['wrong'][:3]} {figures}")
    if grown > BOUND_MIB:
        raise Broken(f"the server grew by {grown:.0f} MiB: {figures}")
    return figures


@contextmanager
def _watched(url: str, trees: Sequence[Sequence[Known]]) -> Iterator[dict[str, list]]:
    from faults.server import listener

    process_id, ask, stop = listener(url), one(trees[-1][-1]), threading.Event()
    watch: dict[str, list] = {"seconds": [], "mebibytes": [_resident(process_id)], "wrong": []}

    def asks() -> None:
        with httpx.Client(base_url=url, timeout=2 * BOUND_S) as http:
            while not stop.is_set() or not watch["seconds"]:
                begun = time.monotonic()
                try:
                    answer = http.post(ask.path, json=ask.body)
                    ask.check(answer.status_code, answer.json())
                except (httpx.HTTPError, ValueError, Broken) as error:
                    watch["wrong"].append(repr(error))
                watch["seconds"].append(time.monotonic() - begun)

    def looks() -> None:
        while not stop.wait(WATCH_S):
            watch["mebibytes"].append(_resident(process_id))

    threads = [threading.Thread(target=asks), threading.Thread(target=looks)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _resident(process_id: int) -> float:
    return sum(process.memory_info().rss for process in tree(process_id)) / MIB


def bomb_to_client(url: str, trees: Sequence[Sequence[Known]]) -> dict[str, Any]:
    """A server whose answers unpack to far more than an answer can be: the client says so, and stays small."""
    asks = (
        "from vllm_prm import PRMClient, PRMError\n"
        "import resource, sys\n"
        "client = PRMClient(sys.argv[1], max_retries=0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    client.score('q', ['1'])\nexcept PRMError as error:\n"
        "    print(type(error).__name__, str(error)[:200])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    with _bombing() as bombing:
        ran = subprocess.run(
            [sys.executable, "-c", asks, bombing],
            capture_output=True,
            text=True,
            timeout=BOUND_S * 3,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (CLIENT_MIB * MIB,) * 2),
        )
    said = ran.stdout.strip().splitlines()
    if ran.returncode or len(said) != 2 or int(said[1]) > BOUND_MIB:
        raise Broken(f"the client ended with {ran.returncode}: {said} {ran.stderr[-500:]}")
    return {"said": said[0].replace(bombing, ""), "MiB more": int(said[1])}


@contextmanager
def _bombing() -> Iterator[str]:
    """A server whose every answer is gigabytes of spaces, packed."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            packer, block = zlib.compressobj(9, wbits=31), b" " * MIB
            try:
                for _ in range(2 * CLIENT_MIB):
                    self.wfile.write(packer.compress(block))
                self.wfile.write(packer.flush())
            except OSError:
                return  # the client has gone, as it should

        do_POST = do_GET

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


FAULTS = {
    "slow clients": dripping,
    "half-open connections": half_open,
    "long bodies": long_bodies,
    "bomb to the server": bomb_to_server,
    "bomb to the client": bomb_to_client,
}
