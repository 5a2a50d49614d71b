"""A real `vllm serve` on a free port, stopped whatever happens, and clients that hang up on it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_UP_S = 240  # a server boots in about 50 s on two idle cores; test machines are not idle


@contextmanager
def serving(log: Path, *arguments: str, program: str = "vllm", script: Path | None = None) -> Iterator[str]:
    """Base URL of `vllm serve ARGUMENTS`, or of another program's or script's `serve`; its output goes to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = [str(Path(sys.executable).with_name(program))] if script is None else [sys.executable, str(script)]
    command = [*named, "serve", *arguments, "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_UP_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"vllm serve stopped with {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"no answer from vllm serve after {START_UP_S} s:\n{log.read_text()[-3000:]}")


def hangs_up(url: str, body: Any, when: Callable[[], bool], headers: dict[str, str] | None = None) -> bool:
    """Posts `body` and closes the connection as soon as `when()`; False: the answer came before that."""

    async def left() -> bool:
        async with httpx.AsyncClient(timeout=300, headers=headers) as http:
            request = asyncio.create_task(http.post(url, json=body))
            while not request.done():
                if await asyncio.to_thread(when):
                    request.cancel()
                    await asyncio.wait([request])
            return request.cancelled()

    return asyncio.run(left())
