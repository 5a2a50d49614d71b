"""What a search sends again is not tokenized again, and its tokens are those of the whole text."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_prompts_batches import RECIPES, outcome, random_solutions
from test_prompts_cuts import WORDS, plain
from tokenizer_families import FAMILIES, texts_of

from vllm_prm.prompts import scorings
from vllm_prm.prompts.encoding import encode_all
from vllm_prm.prompts.prefixes import Prefixes, prefixes_of

# Continuations per family. The long form: PRM_CONTINUATIONS=100000 (half an hour).
CONTINUATIONS = int(os.environ.get("PRM_CONTINUATIONS", "300"))


@pytest.fixture(autouse=True)
def _nothing_is_known():
    prefixes_of.cache_clear()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_text_that_goes_on_has_the_tokens_of_the_whole_text(family, is_whole):
    recipe, rng = plain(family), random.Random(0)
    encode = recipe.encode_text if is_whole else recipe.encode_part
    texts = texts_of(recipe.tokenizer, 4, longest=8)
    text, ends, hits = next(texts), [], 0
    for _ in range(CONTINUATIONS // 2):
        text += next(texts)
        ends.append(len(text))
        if rng.random() < 0.5:  # something behind the last tag, that the next round does not send
            (encoded,) = encode_all(recipe, [(text + next(texts), ends)], is_whole)
        else:
            (encoded,) = encode_all(recipe, [(text, ends)], is_whole)
        hits += encoded.start > 0
        assert encoded.token_ids == encode(encoded.text)
        counts = {}
        for end in ends[-4:]:
            beginning = encoded.beginning(recipe, end)
            assert beginning == encode(encoded.text[:end])
            if encoded.token_ids[: len(beginning)] == beginning:
                counts[end] = len(beginning)
        encoded.remember(recipe, ends[-1], counts)
        if len(text) > 400:
            text, ends = next(texts), []
    if family not in WORDS or (is_whole and family == "an end token"):
        assert hits == 0  # no cut is known, or none is where the tokenizer adds something behind
    elif "trimmed" not in family:  # there the Encoding says less
        assert hits > CONTINUATIONS // 8


def beams(recipe, rounds, seed):
    """Solutions round by round: a step is added to each, and some are forked. Then all of the last round again."""
    rng = random.Random(seed)
    pool = [step for _, steps in random_solutions(recipe, 40) for step in steps]
    fronts = [(f"question {n}", []) for n in range(2) for _ in range(2)]
    for _ in range(rounds):
        fronts = [(question, [*steps, rng.choice(pool)]) for question, steps in fronts]
        yield fronts
        fronts = [fronts[0], fronts[0], *rng.sample(fronts[1:], 2)]
    yield fronts


@pytest.mark.parametrize("name", RECIPES)
def test_a_search_is_planned_as_if_nothing_were_known(name):
    recipe = RECIPES[name]
    rounds = list(beams(recipe, 8, seed=0))
    known = [[outcome(scoring, recipe) for scoring in scorings(solutions, recipe)] for solutions in rounds]
    for solutions, outcomes in zip(rounds, known, strict=True):
        prefixes_of.cache_clear()
        assert outcomes == [outcome(scoring, recipe) for scoring in scorings(solutions, recipe)]


def test_memory_is_bounded_and_the_oldest_goes_first():
    prefixes = Prefixes(limit=10_000)
    for number in range(100):
        prefixes.keep(None, f"text {number}", range(100), {1: 2})
        assert prefixes.longest(None, ["text 0"]) is not None  # used again and again
    assert 8_000 < prefixes.size <= 10_000
    assert prefixes.longest(None, ["text 1"]) is None
    index, prefix = prefixes.longest(None, ["nothing", "text 99", "text 0"])
    assert (index, list(prefix.token_ids), prefix.counts) == (1, list(range(100)), {1: 2})
    assert prefixes.longest("another context", ["text 99"]) is None
    size = prefixes.size
    prefixes.keep(None, "text 99", range(100), {1: 2})
    assert prefixes.size == size
    prefixes.keep(None, "too long", range(5_000), {})
    assert (prefixes.size, prefixes.longest(None, ["too long"])) == (size, None)


def test_several_threads_plan_at_once():
    recipe = next(recipe for recipe in RECIPES.values() if recipe.recipe.name == "rlhflow-deepseek")
    rounds = [solutions for seed in range(4) for solutions in beams(recipe, 6, seed)]
    with ThreadPoolExecutor(4) as threads:
        planned = list(threads.map(lambda solutions: scorings(solutions, recipe), rounds))
    prefixes_of.cache_clear()
    for solutions, together in zip(rounds, planned, strict=True):
        alone = [outcome(scoring, recipe) for scoring in scorings(solutions, recipe)]
        assert [outcome(scoring, recipe) for scoring in together] == alone
