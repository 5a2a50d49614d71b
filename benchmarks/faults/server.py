"""A server of the tiny PRM with our routes on, in a place where its memory and its figures can be seen."""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from serve import Server, serving

from faults.known import MODEL

# The smallest blocks of a CPU, and no compiling: an engine that is up sooner computes the same.
OPTIONS = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
MIB = 1 << 20


@contextmanager
def prm_server(log: Path, model: Path = MODEL, port: int | None = None, **options: Any) -> Iterator[Server]:
    """The tiny PRM, under its folder's name. options: of `vllm serve`. With the allocator that a user has."""
    os.environ["VLLM_PLUGINS"] = "prm"
    named = {"task": "embed", "served_model_name": str(model), **OPTIONS, **options}
    with serving(str(model), named, log, keep_freed_memory=False, port=port) as server:
        yield server


@contextmanager
def vllm_alone(log: Path) -> Iterator[Server]:
    """The same model on a server that loads no plugin: what it answers is vLLM's own."""
    os.environ["VLLM_PLUGINS"] = "none of them"
    with serving(str(MODEL), {"runner": "pooling", "convert": "embed", **OPTIONS}, log) as server:
        yield server


def metric(url: str, name: str) -> float:
    """The sum of a figure over all its labels, from /metrics; 0 if it is not there."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as page:
        text = page.read().decode()
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def listener(url: str) -> int:
    """The process id of the server behind an address of this machine."""
    port = int(url.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return connection.pid
    raise LookupError(f"nothing of this user listens on port {port}")


def tree(process_id: int) -> list[psutil.Process]:
    front = psutil.Process(process_id)
    return [front, *front.children(recursive=True)]


class Memory:
    """Resident memory of a server's processes together, looked at every `every_s` seconds, in a thread.

    samples: (seconds since the first, MiB of the front end, MiB of the processes below it).
    """

    def __init__(self, process_id: int, every_s: float) -> None:
        self.samples: list[tuple[float, float, float]] = []
        self._process_id, self._every_s = process_id, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def growth(self, warm_s: float, window_s: float) -> float:
        """By how much the last `window_s` seconds lie above those after `warm_s`: medians, as a share."""
        end = self.samples[-1][0]
        early = [front + below for at, front, below in self.samples if warm_s <= at <= warm_s + window_s]
        late = [front + below for at, front, below in self.samples if at >= end - window_s]
        return statistics.median(late) / statistics.median(early) - 1

    def _watch(self) -> None:
        begun = time.monotonic()
        while True:
            try:
                front, *below = [process.memory_info().rss / MIB for process in tree(self._process_id)]
                self.samples.append((round(time.monotonic() - begun, 1), round(front, 1), round(sum(below), 1)))
            except psutil.NoSuchProcess:  # one of them ended while we looked, which is for others to notice
                pass
            if self._stop.wait(self._every_s):
                return
