"""`prompt_logprob_token_ids` as the benchmarks use it. Only GPUs run it; here its rows keep the rules of vLLM."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from packaging.version import Version
from vllm import SamplingParams

from vllm_prm.engine.compat import vllm_version

sys.path.append(str(ROOT / "benchmarks"))
from ways import Engine, Tokens, token_logprobs_of

TOKENS = Tokens(tag=7, scoring=(11, 12))
IDS = [100, 101, 7, 102, 7, 7, 103, 7]


@pytest.mark.skipif(
    Version(vllm_version()) < Version("0.32"), reason="this vLLM has one list for all tokens: run it with vLLM 0.32"
)
def test_one_row_for_each_token_from_the_first_tag_on():
    """A prompt of n tokens has n - 1 - start rows, says vLLM; ours has one token more than IDS."""
    params = SamplingParams(max_tokens=1, **token_logprobs_of(IDS, TOKENS))
    limits = SimpleNamespace(max_model_len=64, get_vocab_size=lambda: 1000, max_logprobs=20)
    params._validate_logprobs(limits)
    assert params.prompt_logprob_start == 2
    assert np.array(params.prompt_logprob_token_ids).shape == (len(IDS) + 1 - 1 - 2, 2)


def test_scores_are_read_at_the_tags():
    engine = object.__new__(Engine)
    engine.way, engine.task, engine.tokens = "token_logprobs", "generate", TOKENS
    rows = np.log(np.array([[0.1 * row, 1 - 0.1 * row] for row in range(1, 7)], dtype=np.float32))
    scores = engine.scores(IDS, SimpleNamespace(prompt_token_id_logprobs=rows))
    assert scores[::2] == pytest.approx([0.1, 0.3, 0.4, 0.6])  # of positions 2, 4, 5 and 7
