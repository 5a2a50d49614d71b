"""Clients that leave in the middle of a long prompt: what was computed for them is right for whoever comes next."""

from __future__ import annotations

import random
import re
import time

import httpx
import pytest
from checkpoints import TAG
from oracle import TOLERANCE, Oracle, difference, words
from server import serving

LONG, BLOCK = 8000, 32


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint("mistral", called="math-shepherd-mistral-7b-prm")


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "8192", "--served-model-name", "prm"]
    options += ["--block-size", str(BLOCK), "--max-num-seqs", "4", "--max-num-batched-tokens", "64"]  # 125 steps
    with serving(tmp_path_factory.mktemp("log") / "server.log", folder, "--task", "embed", *options) as url:
        yield url


@pytest.fixture(scope="module")
def solution():
    rng = random.Random(0)
    ids = [1]
    while len(ids) < LONG:
        ids += [*words(rng, 30), TAG]
    return ids[:LONG]


def embed(url: str, ids: list[int], timeout: float | None = 300) -> list[float]:
    body = {"model": "prm", "input": ids, "encoding_format": "float"}
    answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=timeout)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["embedding"]


def metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return sum(float(value) for value in re.findall(rf"^vllm:{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))


def until_idle(url: str) -> None:
    deadline = time.monotonic() + 60
    while metric(url, "num_requests_running") + metric(url, "num_requests_waiting") > 0:
        assert time.monotonic() < deadline, "a request whose client left is still running"
        time.sleep(0.05)


def test_the_next_request_over_an_abandoned_prefix_is_right(url, folder, solution):
    import torch

    expected = Oracle(folder).scores(solution)
    start = time.monotonic()
    embed(url, [1, *solution[-1:0:-1]])  # as long, and shares no block with the solution
    whole = time.monotonic() - start
    left, rng = 0, random.Random(0)
    for number in range(8):
        try:
            embed(url, solution, timeout=whole * rng.uniform(0.1, 0.5))
        except httpx.ReadTimeout:
            left += 1
        if number % 2:
            until_idle(url)  # else the next one comes while the engine may still work for the last
        end = rng.randrange(500, 2500)  # a part of what was computed for those who left
        steps = solution[:end].count(TAG)
        found = torch.tensor(embed(url, solution[:end]))
        assert difference(found, expected[:steps]) < TOLERANCE
    assert left >= 2, "no client left in the middle, so nothing was shown"
    assert difference(torch.tensor(embed(url, solution)), expected) < TOLERANCE
    until_idle(url)
    assert metric(url, "prefix_cache_hits_total") > 0
    assert metric(url, "prefix_cache_queries_total") > metric(url, "prefix_cache_hits_total")
