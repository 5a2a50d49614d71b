"""Recipes from prompts to scores: PRM on random checkpoints against transformers, read as the sources read."""

from __future__ import annotations

from dataclasses import replace

import other_heads
import pytest
import torch
import vocabularies
from checkpoints import SMALL, real_tokenizer
from oracle import TOLERANCE, Oracle
from prompt_oracles import ONE_PROMPT
from source_scores import QUESTION, SOLUTIONS, source_scores
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from vllm_prm import PRM, load_recipe, recipe_names

MISTRAL = (real_tokenizer, MistralForCausalLM, MistralConfig, 32000)
LLAMA = (vocabularies.llama3, LlamaForCausalLM, LlamaConfig, 128256)
QWEN = (vocabularies.qwen25, Qwen2ForCausalLM, Qwen2Config, 151680)
# transformers 5 rebuilds a Qwen2 tokenizer from its merges, and the small vocabulary has none for runs of newlines.
QWEN_WORDS = (vocabularies.qwen25, LlamaForCausalLM, LlamaConfig, 151680)
RECIPES = {
    "math-shepherd": MISTRAL,
    "openrlhf": MISTRAL,
    "rlhflow-deepseek": LLAMA,
    "rlhflow-mistral": LLAMA,
    "versaprm": LLAMA,
    "llama-prm800k": LLAMA,
    "er-prm": LLAMA,
    "math-psa": QWEN_WORDS,
    "qwen-prm800k": QWEN_WORDS,
    "visualprm": QWEN,
    "pathfinder": QWEN,
    "genprm": QWEN,
}
OWN_HEADS = {
    "qwen2.5-math-prm": other_heads.own_head,
    "reasonflux-prm": other_heads.own_head,
    "skywork-o1-prm": other_heads.value_head,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def folder(kind):
        tokenizer, model, config, size = kind
        if kind not in made:
            torch.manual_seed(1)  # PathFinder's first pass then finds errors in some steps, and none in others
            made[kind] = str(tmp_path_factory.mktemp("oracle") / model.__name__)
            model(config(**{**SMALL, "vocab_size": size})).save_pretrained(made[kind])
            tokenizer().save_pretrained(made[kind])
        return made[kind]

    return folder


def scored(folder, name):
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "block_size": 32}
    recipe = load_recipe(name)
    if name == "visualprm":  # its class sees, which no step of text needs: tests/e2e/test_pictures.py
        recipe = replace(recipe, architecture=None)
    with PRM(folder, recipe, **options) as prm:
        return prm.score_batch([(QUESTION, steps) for steps in SOLUTIONS], progress=False)


@pytest.mark.parametrize("name", RECIPES)
def test_step_scores_are_the_sources(name, checkpoints):
    folder, tokenizer = checkpoints(RECIPES[name]), RECIPES[name][0]()
    oracle = Oracle(folder)
    for steps, result in zip(SOLUTIONS, scored(folder, name), strict=True):
        assert result.step_scores == pytest.approx(source_scores(name, oracle, steps, tokenizer), abs=TOLERANCE)
        assert len(result.step_scores) == len(steps)


@pytest.mark.parametrize("name", OWN_HEADS)
def test_step_scores_of_other_heads_are_the_sources(name, tmp_path):
    tokenizer = vocabularies.qwen25()
    logits = OWN_HEADS[name](tmp_path, tokenizer, QWEN[3])
    for steps, result in zip(SOLUTIONS, scored(str(tmp_path), name), strict=True):
        expected = []
        for read in ONE_PROMPT[name](QUESTION, steps, tokenizer):
            row = logits(list(read.seen))[-1][list(read.columns)]
            expected.append((row.softmax(-1) if len(row) > 1 else row.sigmoid())[read.good].item())
        assert result.step_scores == pytest.approx(expected, abs=TOLERANCE)
        assert len(result.step_scores) == len(steps)


def test_every_built_in_recipe_is_here():
    assert {*RECIPES, *OWN_HEADS, "lets-verify"} == set(recipe_names())  # lets-verify: test_recipes_served.py
