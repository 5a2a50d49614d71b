"""A `vllm serve` on a free port, for the benchmarks, and how much processor time its processes have used."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from memory import keeping_freed_memory

START_UP_S = 900  # a 7B model from a cold disk takes minutes
SHOWN = 6000  # characters of a log in an error: a traceback of vLLM's start-up has some 5,000


@dataclass
class Server:
    url: str
    process: subprocess.Popen

    def cpu_seconds(self) -> tuple[float, float]:
        """Processor time so far: of the front end (HTTP, tokenizing), and of the processes below it (the engine)."""
        front = psutil.Process(self.process.pid)
        below = [child.cpu_times() for child in front.children(recursive=True)]
        own = front.cpu_times()
        return own.user + own.system, sum(times.user + times.system for times in below)


def flags(options: dict[str, Any]) -> list[str]:
    """Engine options as command-line flags."""
    line = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            line += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return line


@contextmanager
def serving(
    model: str,
    options: dict[str, Any],
    log: Path,
    vllm: Sequence[str] | None = None,
    keep_freed_memory: bool = True,
    port: int | None = None,
) -> Iterator[Server]:
    """A server with these engine options, stopped whatever happens; its output goes to `log`.

    vllm: a command that takes the place of `vllm`. keep_freed_memory: see memory.py; without it, memory is a user's.
    port: None takes a free one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = port or free.getsockname()[1]
    with keeping_freed_memory(keep_freed_memory):
        environment = dict(os.environ)
    environment = {k: v for k, v in environment.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"), "HF_HUB_OFFLINE": "1"}
    vllm = vllm or [str(Path(sys.executable).with_name("vllm"))]
    command = [*vllm, "serve", model, "--served-model-name", "prm"]
    command += ["--port", str(port), *flags(options)]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield Server(f"http://127.0.0.1:{port}", process)
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
            raise RuntimeError(f"vllm serve stopped with {process.returncode}:\n{_trouble(log)}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"no answer from vllm serve after {START_UP_S} s:\n{_trouble(log)}")


def _trouble(log: Path) -> str:
    """The log's first traceback: the engine's own. The later ones only say that it ended."""
    text = log.read_text()
    first = text.find("Traceback (most recent call last)")
    return text[first:][:SHOWN] if first >= 0 else text[-SHOWN:]
