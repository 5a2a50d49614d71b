"""Scores that are probabilities over the whole vocabulary: Granite's recipe on a small Granite, reused and not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import vocabularies
from checkpoints import SMALL
from oracle import TOLERANCE, Oracle, difference
from prompt_oracles import granite
from transformers import GraniteConfig, GraniteForCausalLM
from vllm import PoolingParams

from vllm_prm import PRM

BLOCK, VOCABULARY = 32, 49160
# Scaled as the real ones are, less so for a small width: the scores of random weights shall be no zeros.
SCALED = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0, "attention_multiplier": 0.1}
QUESTION = "Anna bought a bagel for $x and a glass of juice for $0.85. What is x if she paid $3.15?"
STEPS = ["She paid x + $0.85.", "So x + $0.85 = $3.15.", "Y", "That is x = $2.30.", "The answer is: 2.30"]
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "max_num_batched_tokens": 64}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder whose name says what it is, and what the steps of a solution must score."""
    folder = tmp_path_factory.mktemp("whole") / "granite-3.3-8b-math-prm-v2"
    torch.manual_seed(0)
    GraniteForCausalLM(GraniteConfig(**{**SMALL, "vocab_size": VOCABULARY}, **SCALED)).save_pretrained(folder)
    vocabularies.granite().save_pretrained(folder)
    return str(folder), partial(log_probabilities, Oracle(str(folder)))


def log_probabilities(oracle, steps, ids=None):
    """[steps, ids (the recipe's "Y")] of the softmax over the whole vocabulary, as the card's code reads it."""
    reads = granite(QUESTION, steps, vocabularies.granite())
    asked = tuple(ids or reads[0].columns)
    return torch.cat([oracle.shares(list(read.seen), [len(read.seen) - 1], asked) for read in reads]).log()


@pytest.fixture
def rows(monkeypatch):
    """How many hidden states went through the whole head, per call."""
    from vllm_prm.engine.worker.head import ScoringHead

    counts, original = [], ScoringHead.log_probabilities

    def counted(self, hidden, ids):
        counts.append(len(hidden))
        return original(self, hidden, ids)

    monkeypatch.setattr(ScoringHead, "log_probabilities", counted)
    return counts


def test_a_solution_that_grows_is_scored_from_the_cache(checkpoint, vllm_log, rows):
    folder, expected = checkpoint
    with PRM(folder, block_size=BLOCK, **OPTIONS) as prm:
        assert prm.recipe.name == "granite-3.3-prm"
        del rows[:]
        sent = computed = 0
        for count in (1, 2, 3, 4, 5, 5):
            result = prm.score(QUESTION, STEPS[:count])
            assert result.step_scores == pytest.approx(expected(STEPS[:count])[:, 0].exp().tolist(), abs=TOLERANCE)
            assert len(set(result.step_scores)) > 1 or count == 1
            sent, computed = sent + result.num_prompt_tokens, computed + sum(rows)
            assert sum(rows) == result.num_prompt_tokens - result.num_cached_tokens
            del rows[:]
        assert result.num_cached_tokens >= result.num_prompt_tokens - BLOCK
        assert computed < 0.6 * sent
        _the_other_ways_in(prm.llm, expected)
    assert "the output head (6 million weights) runs for every token" in vllm_log.text


def _the_other_ways_in(llm, expected):
    """Text's own ids with their tags; log-probabilities for logits; and a request with tokens of its own."""
    ids = list(granite(QUESTION, STEPS, vocabularies.granite())[-1].seen) + [vocabularies.granite().get_vocab()["Y"]]
    own = [7, 17594, VOCABULARY - 1]
    params = [PoolingParams(), PoolingParams(use_activation=False), PoolingParams(returned_token_ids=own)]
    outputs = llm.encode([{"prompt_token_ids": ids}] * 3, params, pooling_task="embed", use_tqdm=False)
    scores, logarithms, of_own = (output.outputs.data for output in outputs)
    assert difference(scores, expected(STEPS)[:, 0].exp()) < TOLERANCE
    assert difference(logarithms, expected(STEPS)[:, 0]) < 1e-4  # of size 10
    assert difference(of_own, expected(STEPS, own).exp().flatten()) < TOLERANCE


def test_without_a_cache_the_head_runs_at_the_steps_only(checkpoint, vllm_log, rows):
    folder, expected = checkpoint
    with PRM(folder, enable_prefix_caching=False, **OPTIONS) as prm:
        del rows[:]
        result = prm.score(QUESTION, STEPS)
        assert sum(rows) == len(STEPS)
        assert result.step_scores == pytest.approx(expected(STEPS)[:, 0].exp().tolist(), abs=TOLERANCE)
    assert "runs whole, at the steps only" in vllm_log.text
