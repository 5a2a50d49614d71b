"""Every built-in recipe's prompts against an oracle written from its source."""

from __future__ import annotations

import re

import numpy as np
import pytest
import vocabularies
from checkpoints import real_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompt_oracles import ONE_PROMPT

from vllm_prm import RequestError, load_recipe
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind, recipe_names

_MISTRAL = real_tokenizer()
_LLAMA = ("versaprm", "llama-prm800k", "er-prm", "rlhflow-deepseek", "rlhflow-mistral", "pqm")
_OF_MISTRAL = ("math-shepherd", "openrlhf", "math-minos", "reasoneval", "reasoneval-34b", "reasoneval-redundancy")
# Others: as the tokenizer does it. Granite's token ends every turn.
_BOS = {"skywork-o1-prm": 1, "trl-prm": 1, "trl-prm800k": 1, "pqm": 0, "granite-3.3-prm": 5}


def tokenizer_for(name):
    if name in _OF_MISTRAL:
        return _MISTRAL
    if name == "granite-3.3-prm":
        return vocabularies.granite()
    return vocabularies.llama3() if name in _LLAMA else vocabularies.qwen25()


def planned(name, question, steps, **more):
    """The one prompt of a solution, after checking that its logits become the solution's."""
    recipe = bind(load_recipe(name), tokenizer_for(name))
    scoring = Scoring(question, steps, recipe, **more)
    (prompt,) = scoring.prompts
    logits = np.random.default_rng(0).normal(size=(len(prompt.positions), len(recipe.scoring_ids))).astype(np.float32)
    logits -= 10 * recipe.recipe.reads_vocabulary  # logarithms of shares, then
    scoring.take([logits], num_cached_tokens=3)
    assert scoring.prompts == []
    scores = scoring.result()
    assert np.array_equal(np.array(scores.logits, np.float32), logits)
    assert (scores.num_prompt_tokens, scores.num_cached_tokens) == (len(prompt.token_ids), 3)
    return prompt


def columns(name):
    """The recipe's scoring tokens as this tokenizer's ids (class indices of a head of its own), and their weights."""
    recipe, vocabulary = load_recipe(name), tokenizer_for(name).get_vocab()
    return [
        vocabulary.get(token.piece or (*token.words, "")[0], token.id) for token in recipe.scoring_tokens
    ], recipe.weights


def check(name, question, steps):
    tokenizer, prompt = tokenizer_for(name), planned(name, question, steps)
    reads = ONE_PROMPT[name](question, steps, tokenizer)
    assert len(reads) == len(steps), "the oracle's own reading broke: not a text to compare on"
    ids, weights = columns(name)
    for position, read in zip(prompt.positions, reads, strict=True):
        assert prompt.token_ids[: position + 1] == read.seen
        assert list(read.columns) == ids
        assert read.weights == weights


# Texts that break a naive reading without holding a tag.
TEXTS = {
    "plain": ("What is 2 + 3 * 4?", ["3 * 4 = 12", "2 + 12 = 14", "The answer is: 14"]),
    "one step": ("Two plus two?", ["4"]),
    "plus and minus": ("a + b - c?", ["+", "-", "+ + -", "a+b-c"]),
    "hundred steps": ("How many?", [f"add {n}: {n} + 1 = {n + 1}" for n in range(100)]),
    "unicode": ("Сколько будет 2 + 2? 日本 🦆", ["два и два é", "четыре 四", "🦆🦆"]),
    "newlines": ("line\n\nline", ["a\nb", "c\n\nd", "$$x\n= 1$$"]),
    "templates": ("{question} {step} {k} {tag}", ["{step}", "{tag} {k}", "\\boxed{4} %s"]),
    "empty question": ("", ["a", "b"]),
    "same steps": ("q", ["same", "same", "same"]),
    "roles": ("user", ["assistant", "system", "user"]),
}


def test_every_recipe_has_an_oracle():
    templates = {"lets-verify"}  # names no tokens
    assert set(ONE_PROMPT) | templates | {"pathfinder", "genprm"} == set(recipe_names())


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ONE_PROMPT)
def test_as_the_source_reads(name, text):
    question, steps = TEXTS[text]
    if name in ("math-shepherd", "openrlhf", "er-prm") and text == "unicode":
        question = question.replace("Сколько", "How")
    if name == "math-minos" and text == "unicode":
        steps = [step.replace(" и ", " + ") for step in steps]
    if name == "rlhflow-deepseek" and text == "newlines":
        steps = ["a\nb", "c"]
    check(name, question, steps)


@pytest.mark.parametrize("name", ONE_PROMPT)
def test_special_tokens_come_once(name):
    prompt = planned(name, "Two plus two?", ["2 + 2", "= 4"])
    bos = tokenizer_for(name).bos_token_id
    by_tokenizer = 0 if tokenizer_for(name) is vocabularies.qwen25() else 1
    assert prompt.token_ids.count(bos) == _BOS.get(name, by_tokenizer)


def test_steps_that_are_numbered_are_not_numbered_twice():
    for name in ("math-shepherd", "math-psa", "er-prm"):
        bare = planned(name, "q?", ["one", "two"])
        assert planned(name, "q?", ["Step 1: one", "Step 2: two"]) == bare
        assert planned(name, "q?", ["Step 1: one", "two"]) == bare


_WORDS = st.text(st.sampled_from("ab+- 12\n.,=дé日{}<>|\\"), max_size=20)


@pytest.mark.parametrize("name", ONE_PROMPT)
@settings(max_examples=settings.default.max_examples // 20, deadline=None)
@given(question=_WORDS, steps=st.lists(_WORDS.filter(lambda text: text.strip()), min_size=1, max_size=8))
def test_random_texts_are_read_as_the_source_reads(name, question, steps):
    # Where the source splits a solution's text, a step never holds what it splits at, nor white space at its ends.
    steps = [step.strip() for step in steps]
    if name in ("skywork-o1-prm",):
        steps = [step.replace("\n", " ") for step in steps]
    check(name, question, steps)


_ANYTHING = st.text(st.sampled_from("ab+-\n ки.{}"), max_size=12) | st.sampled_from(
    ["ки", " ки", "ки\n", "a ки b", "киx", "<extra_0>", "x<extra_0>", "x \n\n\n\n y", "x \n\n\n\n\n y", "<|eot_id|>"]
    + ["<s>", "<|begin_of_text|>", "<|start_header_id|>assistant<|end_header_id|>\n\n+"]
)
# Tokens that follow the last tag: the end of the assistant's turn, by the chat template.
_TAIL = {"granite-3.3-prm": 2, "rlhflow-deepseek": 1, "rlhflow-mistral": 1, "qwen2.5-math-prm": 2, "reasonflux-prm": 2}


@pytest.mark.parametrize("name", ONE_PROMPT)
@settings(max_examples=settings.default.max_examples // 20, deadline=None)
@given(question=_ANYTHING, steps=st.lists(_ANYTHING.filter(lambda text: text.strip()), min_size=1, max_size=6))
@example(question="ки ки", steps=["ки", "a ки", "ки b", "+ ки -"])
@example(question="<extra_0>", steps=["a<extra_0>", "<extra_0><extra_0>"])
@example(question="a \n\n\n\n b", steps=["x \n\n\n\n y", "x \n\n\n\n\n y"])
def test_a_tag_in_a_text_is_never_the_end_of_a_step(name, question, steps):
    """Each step is read where the solution up to that step ends, whatever the texts hold."""
    try:
        prompt = planned(name, question, steps)
    except RequestError as error:
        # Only where a special token's text stands next to the tag: sentencepiece then makes other pieces of it.
        named = int(re.search(r"after step (\d+) of", str(error))[1])  # noqa: PT017 - the error is optional
        assert name in ("math-shepherd", "openrlhf", "math-minos")  # noqa: PT017
        assert steps[named - 1].strip().endswith("<s>")  # noqa: PT017
        return
    assert len(prompt.positions) == len(steps)
    assert all(a < b for a, b in zip(prompt.positions, prompt.positions[1:], strict=False))
    for count, position in enumerate(prompt.positions, 1):
        alone = planned(name, question, steps[:count]).token_ids
        end = len(alone) - _TAIL.get(name, 0)
        assert prompt.token_ids[: position - load_recipe(name).offset + 1] == alone[:end]
