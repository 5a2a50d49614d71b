"""Recipes from prompts to scores on random checkpoints: transformers answers the plans, and the sources' own loops."""

from __future__ import annotations

import pytest
import torch
import vocabularies
from oracle import TOLERANCE, Oracle
from prompt_oracles import ONE_PROMPT, genprm, pathfinder
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from vllm_prm import load_recipe
from vllm_prm.prompts import score_plan
from vllm_prm.results import StepScores

QUESTION = "What is 2 + 3 * 4 - 1?"
SOLUTIONS = [
    ["3 * 4 = 12", "2 + 12 = 14", "14 - 1 = 13. The answer is: 13"],
    ["+", "- +", "日本 2 + 2", "a\nb"],
    ["The answer is: 4"],
]
_SMALL = {
    "hidden_size": 128,  # a head of vLLM's CPU attention has at least 32
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.1,
}
LLAMA = (vocabularies.llama3, LlamaForCausalLM, LlamaConfig, 128256)
QWEN = (vocabularies.qwen25, Qwen2ForCausalLM, Qwen2Config, 151680)
RECIPES = {
    "rlhflow-deepseek": LLAMA,
    "versaprm": LLAMA,
    "er-prm": LLAMA,
    "math-psa": QWEN,
    "pathfinder": QWEN,
    "genprm": QWEN,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    made = {}

    def folder(kind):
        tokenizer, model, config, size = kind
        if model not in made:
            torch.manual_seed(1)  # PathFinder's first pass then finds errors in some steps, and none in others
            made[model] = str(tmp_path_factory.mktemp("oracle") / model.__name__)
            model(config(vocab_size=size, **_SMALL)).save_pretrained(made[model])
            tokenizer().save_pretrained(made[model])
        return made[model]

    return folder


def good_shares(oracle, reads):
    """P(good) of each read: softmax over its columns, at the last token seen."""
    shares = []
    for read in reads:
        logits = oracle.logits_at(list(read.seen), [len(read.seen) - 1], read.columns)[0]
        shares.append(logits.softmax(-1)[read.good].item())
    return shares


def source_scores(name, oracle, steps, tokenizer):
    """The step scores as the source's own loop comes to them, from transformers' logits."""
    if name in ONE_PROMPT:
        return good_shares(oracle, ONE_PROMPT[name](QUESTION, steps, tokenizer))
    scores, answers = [], []
    for index in range(len(steps)):
        if name == "genprm":
            (score,) = good_shares(oracle, genprm(QUESTION, steps[: index + 1], tokenizer, answers))
            answers.append("Yes" if score > 0.5 else "No")
        else:
            asked = " Math reasoning: <extra>, Consistency: <extra>"
            score = min(good_shares(oracle, pathfinder(QUESTION, steps, tokenizer, asked, index)))
            if score > 0.5:
                asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
                (score,) = good_shares(oracle, pathfinder(QUESTION, steps, tokenizer, asked, index))
        scores.append(score)
    return scores


@pytest.mark.parametrize("name", RECIPES)
def test_plans_alone_come_to_the_sources_scores(name, checkpoints):
    """No engine: transformers answers the plan's prompts."""
    folder, tokenizer, recipe = checkpoints(RECIPES[name]), RECIPES[name][0](), load_recipe(name)
    oracle, vocabulary = Oracle(folder), tokenizer.get_vocab()
    columns = tuple(vocabulary[token.piece] for token in recipe.scoring_tokens)
    for steps in SOLUTIONS:
        plan = score_plan(QUESTION, steps, recipe, tokenizer)
        prompts, rows = next(plan), None
        while rows is None:
            answers = [oracle.logits_at(list(p.token_ids), list(p.positions), columns).numpy() for p in prompts]
            try:
                prompts = plan.send(answers)
            except StopIteration as stop:
                rows = stop.value
        scores = StepScores.from_logits(rows, recipe, 0, 0).step_scores
        assert scores == pytest.approx(source_scores(name, oracle, steps, tokenizer), abs=TOLERANCE)
