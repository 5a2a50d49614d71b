"""Task token_classify gives the same numbers as embed, as a matrix [steps, scoring tokens]."""

from __future__ import annotations

import random

import httpx
import pytest
import torch
from conftest import TINY_PRM, running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from server import serving
from vllm import PoolingParams


@pytest.fixture(scope="module")
def pair(checkpoint):
    folder = checkpoint("mistral")
    with running(folder, pooler_config=step_config(task="token_classify"), max_num_batched_tokens=8192) as llm:
        yield llm, Oracle(folder)


def encode(llm, ids, **params):
    (output,) = llm.encode([tokens(ids)], PoolingParams(**params), pooling_task="token_classify", use_tqdm=False)
    return output.outputs.data


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_rows_are_steps_and_columns_are_scoring_tokens(pair, steps):
    llm, oracle = pair
    ids = prompt(random.Random(steps), steps)
    found = encode(llm, ids)
    assert found.shape == (steps, 2)
    assert difference(found, oracle.probabilities(ids)) < TOLERANCE


def test_raw_logits(pair):
    llm, oracle = pair
    ids = prompt(random.Random(1), 4)
    assert difference(encode(llm, ids, use_activation=False), oracle.logits(ids)) < 1e-4  # logits of size 10


def test_the_pooling_route_gives_a_matrix_too(tmp_path):
    text = "Mia has 12 apples. She buys 5. She eats 9. How many now? Step 1: 12 + 5 = 17 ки\nStep 2: 17 - 9 = 7 ки"
    flags = ["--task", "embed", "--pooler-config.task", "token_classify", "--dtype", "float32", "--enforce-eager"]
    with serving(tmp_path / "log", TINY_PRM, *flags) as url:
        answer = httpx.post(f"{url}/pooling", json={"model": TINY_PRM, "input": text, "task": "token_classify"})
        (item,) = answer.json()["data"]
        (no_step,) = httpx.post(f"{url}/pooling", json={"model": TINY_PRM, "input": "no step"}).json()["data"]
    found = torch.tensor(item["data"])
    assert difference(found, Oracle(TINY_PRM).probabilities(ids_of(text), 318, (332, 333))) < TOLERANCE
    assert found[:, 0].round().tolist() == [1, 0]
    assert no_step["data"] == []


def ids_of(text):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TINY_PRM).encode(text)
