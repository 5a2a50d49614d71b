"""Clients that leave in the middle of a long prompt: what was computed for them is right for whoever comes next."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import httpx
import pytest
from checkpoints import TAG
from oracle import TOLERANCE, Oracle, difference, words
from server import hangs_up, serving

LONG, BLOCK, BLOCKS = 6000, 32, 1000


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint("mistral", called="math-shepherd-mistral-7b-prm")


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "8192", "--served-model-name", "prm"]
    options += ["--block-size", str(BLOCK), "--max-num-seqs", "4", "--max-num-batched-tokens", "64"]  # 94 steps
    options += ["--num-gpu-blocks-override", str(BLOCKS)]
    with serving(tmp_path_factory.mktemp("log") / "server.log", folder, "--task", "embed", *options) as url:
        yield url


def solution(rng: random.Random) -> list[int]:
    ids = [1]
    while len(ids) < LONG:
        ids += [*words(rng, 30), TAG]
    return ids[:LONG]


def body(ids: list[int]) -> dict[str, Any]:
    return {"model": "prm", "input": ids, "encoding_format": "float"}


def embed(url: str, ids: list[int]) -> list[float]:
    answer = httpx.post(f"{url}/v1/embeddings", json=body(ids), timeout=300)
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


def test_the_next_request_over_an_abandoned_prefix_is_right(url, folder):
    import torch

    oracle, left, rng = Oracle(folder), 0, random.Random(0)
    for number in range(6):
        ids, computed = solution(rng), rng.randrange(500, 3000)
        in_use = computed / BLOCK / BLOCKS
        left += hangs_up(
            f"{url}/v1/embeddings", body(ids), lambda used=in_use: metric(url, "kv_cache_usage_perc") > used
        )
        if number % 2:
            until_idle(url)  # else the next one comes while the engine may still work for the last
        end = rng.randrange(500, 3000)  # more or less than what was computed for the one who left
        found = torch.tensor(embed(url, ids[:end]))
        assert difference(found, oracle.scores(ids[:end])) < TOLERANCE
    assert left >= 3, "hardly a client left in the middle, so little was shown"
    assert difference(torch.tensor(embed(url, ids)), oracle.scores(ids)) < TOLERANCE
    until_idle(url)
    assert metric(url, "prefix_cache_hits_total") > 0
    assert metric(url, "prefix_cache_queries_total") > metric(url, "prefix_cache_hits_total")
