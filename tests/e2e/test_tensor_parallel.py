"""Two tensor-parallel ranks, each holding half the vocabulary, give the scores of one."""

from __future__ import annotations

import os
import random

import pytest
from checkpoints import PLUS, TAG
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from vllm import PoolingParams

# One id in the first half of the vocabulary and one in the second: each rank owns one of the two rows.
ACROSS = (PLUS, 31000)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two ranks need two cores: use a machine that has them")
def test_two_ranks_agree_with_one_and_with_transformers(checkpoint, monkeypatch):
    folder = checkpoint("mistral")
    rng = random.Random(2)
    prompts = [tokens(prompt(rng, steps)) for steps in (1, 2, 20, 50)]
    own = PoolingParams(step_tag_id=TAG, returned_token_ids=list(ACROSS))

    def encode(llm):
        return [
            [o.outputs.data for o in llm.encode(prompts, params, pooling_task="embed", use_tqdm=False)]
            for params in (None, own)
        ]

    with running(folder, pooler_config=step_config()) as llm:
        one = encode(llm)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    with running(folder, pooler_config=step_config(), tensor_parallel_size=2) as llm:
        two = encode(llm)

    oracle = Oracle(folder)
    for i, ids in enumerate(p["prompt_token_ids"] for p in prompts):
        assert difference(two[0][i], one[0][i]) < TOLERANCE
        assert difference(two[0][i], oracle.probabilities(ids).flatten()) < TOLERANCE
        assert difference(two[1][i], oracle.probabilities(ids, TAG, ACROSS).flatten()) < TOLERANCE
