"""Every recipe that reads the output head: pooling = generation = a client on a plain server, step by step, twice.

One random model with a vocabulary in which all of their tokens are, and each recipe with the tokenizer of its family.
The sources' own loops over transformers are the measure, as in test_recipes_oracle.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
import vocabularies
from checkpoints import SMALL
from conftest import running
from oracle import TOLERANCE, Oracle
from server import serving
from source_scores import QUESTION, SOLUTIONS, source_scores
from test_recipes_oracle import RECIPES
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import PoolingParams

from vllm_prm import PRM, PRMClient, load_recipe
from vllm_prm.engine.positions import positions_request
from vllm_prm.engine.serve.offline_logits import PooledPrompts
from vllm_prm.recipes import bind

VOCABULARY = 151680  # Qwen 2.5's, the largest
ENGINE = {"max_model_len": 2048, "block_size": 32, "skip_tokenizer_init": True}
FLAGS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--block-size", "32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(1)  # PathFinder's first pass then finds errors in some steps, and none in others
    path = tmp_path_factory.mktemp("all-recipes") / "model"
    LlamaForCausalLM(LlamaConfig(**{**SMALL, "vocab_size": VOCABULARY})).save_pretrained(path)
    vocabularies.qwen25().save_pretrained(path)
    return str(path)


def tokenizer_of(name):
    return RECIPES[name][0]()


def in_rounds(score_batch):
    """As a search sends them: all prefixes of one step, then of two, and so on; and all of it again."""
    rounds = []
    for count in [*range(1, max(map(len, SOLUTIONS)) + 1)] * 2:
        rounds.append([scores.step_scores for scores in score_batch([(QUESTION, s[:count]) for s in SOLUTIONS])])
    return rounds


class EveryRecipe(PooledPrompts):
    """A pooling engine reads the tokens of the recipe that it was started with, or those that a request names."""

    def __init__(self, llm, scoring_ids):
        super().__init__(llm, None)
        self.scoring_ids = scoring_ids

    def answers(self, prompts, bar):
        outputs = self._llm.encode(
            [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts],
            [
                PoolingParams(
                    use_activation=False,
                    returned_token_ids=list(self.scoring_ids),
                    extra_kwargs=positions_request(prompt.positions),
                )
                for prompt in prompts
            ],
            pooling_task="embed",
            use_tqdm=False,
        )
        return [(output.outputs.data.numpy(), 0) for output in outputs]


@pytest.fixture(scope="module")
def pooled(folder):
    """Per recipe, what a pooling engine says in every round."""
    found = {}
    with running(folder, max_model_len=2048, block_size=32, hf_overrides={"prm": "math-psa"}) as llm:
        for name in RECIPES:
            prm = PRM.from_llm(llm)
            prm._bound_recipe = bind(load_recipe(name), tokenizer_of(name))
            prm._prompts = EveryRecipe(llm, prm._bound_recipe.scoring_ids)
            found[name] = in_rounds(lambda items, prm=prm: prm.score_batch(items, progress=False))
    return found


@pytest.fixture(scope="module")
def generated(folder):
    """The same of an engine that generates text."""
    found = {}
    with running(folder, **ENGINE, runner="generate", convert="auto") as llm:
        for name in RECIPES:
            with patch.object(llm, "get_tokenizer", lambda name=name: tokenizer_of(name)):
                prm = PRM.from_llm(llm, name)
            found[name] = in_rounds(lambda items, prm=prm: prm.score_batch(items, progress=False))
    return found


@pytest.fixture(scope="module")
def plain_url(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_PLUGINS", "")
        log = tmp_path_factory.mktemp("log") / "plain-recipes.log"
        with serving(log, folder, *FLAGS, "--skip-tokenizer-init") as url:
            yield url


@pytest.mark.parametrize("name", RECIPES)
def test_three_ways_to_the_sources_scores(name, folder, pooled, generated, plain_url):
    oracle, tokenizer = Oracle(folder), tokenizer_of(name)
    right = [source_scores(name, oracle, steps, tokenizer) for steps in SOLUTIONS]
    with ExitStack() as stack:
        client = stack.enter_context(PRMClient(plain_url, recipe=name, tokenizer=tokenizer))
        by_client = in_rounds(lambda items: client.score_batch(items, progress=False))
    longest = max(map(len, SOLUTIONS))
    for number, rounds in enumerate(zip(pooled[name], generated[name], by_client, strict=True)):
        for ways in zip(*rounds, right, strict=True):
            *ways, expected = ways
            for scores in ways:
                assert len(scores) == min(number % longest + 1, len(expected))
                assert list(scores) == pytest.approx(expected[: len(scores)], abs=TOLERANCE)
