"""Where step tags are in a batch of prompts, and which requests make vLLM hand their token ids over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm import PoolingParams

from vllm_prm.engine.positions import positions_request
from vllm_prm.engine.worker.pooler import StepPooler
from vllm_prm.engine.worker.tags import tag_positions

TOKEN = st.integers(0, 3)  # few, so that tags occur; 0 is also what vLLM's second runner pads with
PROMPTS = st.lists(st.lists(TOKEN, max_size=12), min_size=1, max_size=5)
TAGS = st.lists(st.lists(TOKEN, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3, unique=True).map(tuple)


def one_by_one(prompt, tags, offset):
    ends = [end for end in range(len(prompt)) if any(tuple(prompt[: end + 1][-len(tag) :]) == tag for tag in tags)]
    return [end + offset for end in ends if end + offset >= 0]


@given(PROMPTS, TAGS, st.sampled_from([0, -1]), TOKEN)
def test_as_looking_token_by_token(prompts, tags, offset, padding):
    lengths = np.array([len(prompt) for prompt in prompts])
    matrix = np.full((len(prompts), max(lengths)), padding, dtype=np.int64)
    for row, prompt in zip(matrix, prompts, strict=True):
        row[: len(prompt)] = prompt
    positions = tag_positions(matrix, lengths, tags, offset)
    assert [list(steps) for steps in positions] == [one_by_one(prompt, tags, offset) for prompt in prompts]


@pytest.mark.parametrize(("extra_kwargs", "needed"), [(None, True), ({}, True), (positions_request([3]), False)])
def test_only_requests_that_are_read_at_tags_cost_a_matrix_of_token_ids(extra_kwargs, needed):
    params = PoolingParams(task="embed", extra_kwargs=extra_kwargs)
    StepPooler.get_pooling_updates(None, "embed").apply(params)
    assert params.requires_token_ids is needed
