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
    MistralForTokenClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from vllm import PoolingParams

from vllm_prm import PRM, load_recipe, recipe_names
from vllm_prm.engine.positions import positions_request
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind

BLOCK = 32  # the smallest of the CPU
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "block_size": BLOCK}
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
OF_MISTRAL = {"kind": (MistralForCausalLM, MistralConfig), "columns": 3, "name": "score_head"}
OF_LLAMA = {"kind": (LlamaForCausalLM, LlamaConfig), "outer": "pretrained_model."}
# The checkpoint, its tokenizer, the recipe that an engine is started with, and others with the same head.
OTHER_HEADS = {
    "classes of vLLM's": (other_heads.own_head, QWEN, {}, ("qwen2.5-math-prm", "reasonflux-prm")),
    "Skywork": (other_heads.linear_head, QWEN, {}, ("skywork-o1-prm",)),
    "PQM": (other_heads.linear_head, LLAMA, {**OF_LLAMA, "architecture": "LlamaForCausalLM"}, ("pqm",)),
    "TRL": (other_heads.token_classes, QWEN, {}, ("trl-prm", "trl-prm800k", "pure-prm")),
    "MATH-Minos": (
        other_heads.token_classes,
        MISTRAL,
        {"kind": (MistralForTokenClassification, MistralConfig), "columns": 1},
        ("math-minos",),
    ),
    "ReasonEval": (
        other_heads.linear_head,
        MISTRAL,
        {**OF_MISTRAL, "architecture": "ReasonEval_7B"},
        ("reasoneval", "reasoneval-34b", "reasoneval-redundancy"),
    ),
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
    recipe = load_recipe(name)
    if name == "visualprm":  # its class sees, which no step of text needs: tests/e2e/test_pictures.py
        recipe = replace(recipe, architecture=None)
    with PRM(folder, recipe, **OPTIONS) as prm:
        return prm.score_batch([(QUESTION, steps) for steps in SOLUTIONS], progress=False)


# An engine by the recipe's name, for each way to read; all of RECIPES in test_recipes_one_engine.py, on one engine.
@pytest.mark.parametrize("name", ["math-shepherd", "rlhflow-deepseek", "genprm"])
def test_step_scores_are_the_sources(name, checkpoints):
    folder, tokenizer = checkpoints(RECIPES[name]), RECIPES[name][0]()
    oracle = Oracle(folder)
    for steps, result in zip(SOLUTIONS, scored(folder, name), strict=True):
        assert result.step_scores == pytest.approx(source_scores(name, oracle, steps, tokenizer), abs=TOLERANCE)
        assert len(result.step_scores) == len(steps)


def scored_on(llm, name, steps):
    """By another recipe with the same head, on an engine that is there; and how many tokens came from its cache."""
    scoring = Scoring(QUESTION, steps, bind(load_recipe(name), llm.get_tokenizer()))
    (prompt,) = scoring.prompts
    params = PoolingParams(use_activation=False, extra_kwargs=positions_request(prompt.positions))
    asked = [{"prompt_token_ids": list(prompt.token_ids)}]
    (output,) = llm.encode(asked, params, pooling_task="embed", use_tqdm=False)
    scoring.take([output.outputs.data.numpy()])
    return scoring.result(), output.num_cached_tokens


@pytest.mark.parametrize("head", OTHER_HEADS)
def test_step_scores_of_other_heads_are_the_sources(head, tmp_path):
    build, (tokenizer, _, _, size), options, (first, *others) = OTHER_HEADS[head]
    logits = build(tmp_path, tokenizer(), vocabulary=size, **options)

    def expected(name, steps):
        for read in ONE_PROMPT[name](QUESTION, steps, tokenizer()):
            row = logits(list(read.seen))[-1]
            assert read.columns == (*range(len(row)),)
            shares = row.softmax(-1) if len(row) > 1 else row.sigmoid()
            yield sum(share.item() * weight for share, weight in zip(shares, read.weights, strict=True))

    with PRM(str(tmp_path), recipe=first, **OPTIONS) as prm:
        for again in (False, True):
            results = prm.score_batch([(QUESTION, steps) for steps in SOLUTIONS], progress=False)
            for steps, result in zip(SOLUTIONS, results, strict=True):
                assert result.step_scores == pytest.approx([*expected(first, steps)], abs=TOLERANCE)
            assert (results[0].num_cached_tokens >= BLOCK) == again
        for name in others:
            for _ in range(2):
                result, num_cached_tokens = scored_on(prm.llm, name, SOLUTIONS[0])
                assert result.step_scores == pytest.approx([*expected(name, SOLUTIONS[0])], abs=TOLERANCE)
            assert num_cached_tokens >= BLOCK


def test_every_built_in_recipe_is_here():
    named = [name for *_, names in OTHER_HEADS.values() for name in names]
    # test_recipes_served.py, test_whole_vocabulary.py, test_judge_engines.py
    elsewhere = {"lets-verify", "granite-3.3-prm", "judge"}
    assert {*RECIPES, *named} | elsewhere == set(recipe_names())
