"""Two tensor-parallel ranks, each holding half the vocabulary, give the scores of transformers."""

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
def test_two_ranks_agree_with_transformers(checkpoint, monkeypatch):
    folder = checkpoint("mistral")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    rng = random.Random(2)
    prompts = [tokens(prompt(rng, steps)) for steps in (1, 2, 20, 50)]
    own = PoolingParams(step_tag_id=TAG, returned_token_ids=list(ACROSS))

    def encode(llm):
        return [
            [o.outputs.data for o in llm.encode(prompts, params, pooling_task="embed", use_tqdm=False)]
            for params in (None, None, own)
        ]

    with running(folder, pooler_config=step_config(), tensor_parallel_size=2) as llm:
        columns = encode(llm)
    whole_vocabulary = {"base": "math-shepherd", "activation": "full_softmax"}
    with running(folder, hf_overrides={"prm": whole_vocabulary}, tensor_parallel_size=2, block_size=32) as llm:
        whole = encode(llm)

    oracle = Oracle(folder)
    for i, ids in enumerate(p["prompt_token_ids"] for p in prompts):
        shares = oracle.shares(ids, [i for i, id_ in enumerate(ids) if id_ == TAG], ACROSS)
        for again in range(2):  # the second time from the cache
            assert difference(columns[again][i], oracle.probabilities(ids).flatten()) < TOLERANCE
            assert difference(whole[again][i], shares[:, 0]) < TOLERANCE
        assert difference(columns[2][i], oracle.probabilities(ids, TAG, ACROSS).flatten()) < TOLERANCE
        assert difference(whole[2][i], shares.flatten()) < TOLERANCE
