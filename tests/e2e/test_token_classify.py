"""Task token_classify gives the same numbers as embed, as a matrix [steps, scoring tokens]."""

from __future__ import annotations

import random

import pytest
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
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
