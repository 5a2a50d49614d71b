"""The tokenizer that vLLM hands out is planned with like transformers' own: by its batch call, and by its cuts."""

from __future__ import annotations

import vocabularies
from vllm.tokenizers.hf import get_cached_tokenizer, maybe_make_thread_pool

from vllm_prm import load_recipe
from vllm_prm.prompts import Scoring, scorings
from vllm_prm.prompts.cuts import cuts_of
from vllm_prm.prompts.encoding import is_fast
from vllm_prm.recipes import bind

TURNS = {"kind": "turns", "question": "{question} ", "tag": "+"}
TOKENS = {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}}


def test_vllms_tokenizers_are_asked_for_a_batch():
    bare = vocabularies.llama3()
    served = maybe_make_thread_pool(get_cached_tokenizer(bare))
    message = (
        "vLLM's tokenizers are of a class that vllm_prm/prompts/encoding.py (is_fast) does not know: prompts are then "
        "tokenized one by one, and again for each step that holds the tag's text"
    )
    assert is_fast(type(served)), message
    assert is_fast(type(get_cached_tokenizer(bare))), message
    assert cuts_of(served) == cuts_of(bare)
    recipe = load_recipe({"name": "own", "step_tag": "+", "scoring_tokens": TOKENS, "prompt": TURNS})
    solutions = [(f"1 + {n}?", [f"1 + {n} = {n + 1}", "+ 0"]) for n in range(4)]
    expected = [Scoring(*solution, bind(recipe, bare)).prompts for solution in solutions]
    assert [scoring.prompts for scoring in scorings(solutions, bind(recipe, served))] == expected
