"""The client against servers of /v1/completions that are not ours: what each can, and what each lies about."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager

import numpy as np
import pytest
import transformers
import vocabularies
from checkpoints import real_tokenizer
from completions_server import MODEL, CompletionsServer, logprobs_after
from conftest import TINY_PRM
from misbehaving import listening
from transformers import AutoTokenizer

from vllm_prm import EngineError, RecipeError, UnsupportedError, load_recipe
from vllm_prm.client import PRMClient
from vllm_prm.client.completions.remote import ServerTokenizer
from vllm_prm.client.transport import Transport
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind, recipe_names

RECIPE = load_recipe(TINY_PRM + "/prm.json")
TOKENIZER = AutoTokenizer.from_pretrained(TINY_PRM)
SCORING = (332, 333)
SIZE = 448
SOLUTIONS = [("Mia has 12.", ["12 + 5 = 17", "17 - 9 = 8"]), ("Mia has 12.", ["12 + 5 = 17"]), ("Tom?", ["1 + 1 = 2"])]


def right(solutions):
    """Step scores by the server's table, read where the prompts say."""
    scores = []
    for question, steps in solutions:
        (prompt,) = Scoring(question, steps, bind(RECIPE, TOKENIZER)).prompts
        rows = [logprobs_after(prompt.token_ids[: at + 1], SIZE)[[*SCORING]] for at in prompt.positions]
        scores.append([float(np.exp(good) / (np.exp(good) + np.exp(bad))) for good, bad in rows])
    return scores


@contextmanager
def client(tokenizer=TOKENIZER, **settings):
    server = CompletionsServer(TOKENIZER, SIZE, **settings)
    with (
        listening(server.app) as url,
        PRMClient(url, recipe=RECIPE, tokenizer=tokenizer, max_retries=0, timeout=20) as prm,
    ):
        prm.server = server
        yield prm


def scored(prm, solutions=SOLUTIONS):
    for result, expected in zip(prm.score_batch(solutions, progress=False), right(solutions), strict=True):
        assert list(result.step_scores) == pytest.approx(expected, abs=1e-5)


LLAMA_CPP = {"takes_ids": False, "takes_many": False, "by_id": False, "names_ids": False, "tokenizes": False}


@pytest.mark.parametrize(
    ("settings", "requests"),
    [
        ({}, 2),  # as vLLM: one to find out, and one for all steps
        ({"by_id": False, "most": SIZE}, 2),
        ({"by_id": False, "most": SIZE, "names_ids": False}, 3),  # it takes the wish for ids, and gives texts
        ({"takes_ids": False, "most": SIZE}, 2),
        ({**LLAMA_CPP, "most": SIZE}, 5),
    ],
)
def test_every_form_gives_the_scores(settings, requests, monkeypatch):
    monkeypatch.setattr("vllm_prm.client.completions.forms._MOST", (SIZE,))
    with client(**settings) as prm:
        scored(prm)
        assert prm.server.asked["completions"] == requests
        scored(prm)
        assert prm.server.asked["completions"] == requests  # all is remembered


def test_each_step_is_sent_once():
    with client() as prm:
        scored(prm)
        _, *sent = sorted(map(tuple, prm.server.prompts), key=len)
        assert len(sent) - 1 == len({*sent}) - 1 == 3  # the second solution is the first one's beginning


def test_a_server_that_speculates_is_not_asked_by_id():
    with client(speculates=True, most=100) as prm:
        prm.score_batch(SOLUTIONS, on_error="return", progress=False)
        assert prm.server.asked["by id"] == 0
    with client() as prm:
        scored(prm)
        assert prm.server.asked["by id"] == prm.server.asked["completions"] > 0


def test_a_scoring_token_beyond_the_likeliest_is_the_error_of_its_solution():
    """Or a bound that cannot matter: never another score."""
    rng = random.Random(3)
    many = [(f"Number {n}?", [f"{rng.randrange(99)} + 1 = 7" for _ in range(2)]) for n in range(150)]
    with client(by_id=False, most=100) as prm:
        results = prm.score_batch(many, on_error="return", progress=False)
    errors = [result for result in results if isinstance(result, EngineError)]
    assert 0 < len(errors) < len(many)
    assert {"not among the 100 likeliest" in str(error) for error in errors} == {True}
    for result, expected in zip(results, right(many), strict=True):
        if not isinstance(result, EngineError):
            assert list(result.step_scores) == pytest.approx(expected, abs=1e-5)


def test_names_that_are_several_tokens_are_no_names():
    """Without their spaces, " +" and the byte "+" are the same name."""
    with (
        client(by_id=False, names_ids=False, keeps_spaces=False) as prm,
        pytest.raises(EngineError, match=r"\['\+', '-'\] of recipe 'tiny-prm' may be several tokens"),
    ):
        prm.score(*SOLUTIONS[0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"lie": "no models"}, EngineError, "/v1/models lists no model"),
        ({"lie": "no logprobs"}, UnsupportedError, "Last answer: a completion without top_logprobs"),
        ({"by_id": False, "most": 1}, UnsupportedError, "Last answer: logprobs: at most 1"),
        ({"lie": "shortens"}, EngineError, r"counted \d+ prompt tokens, and \d+ were sent: it shortens prompts"),
        ({"lie": "other model"}, EngineError, f"asked for model '{MODEL}' and answered with 'another'"),
        ({"lie": "fewer"}, EngineError, "sent 2 completions for 3 prompts"),
        ({"lie": "other tokens by id"}, EngineError, "gave no log-probability for the scoring tokens"),
        ({"shifts": 1}, EngineError, "tokenizes '1 .* 1 = 2.* and the tokenizer on this side as"),
    ],
)
def test_a_server_that_lies_is_told_of(settings, error, message):
    with client(**settings) as prm, pytest.raises(error, match=message):
        prm.score(SOLUTIONS[0][0], [*SOLUTIONS[0][1], "8 + 4 = 12"])


@pytest.fixture
def no_tokenizer(monkeypatch):
    """As on a machine that has neither the server's folder nor its name."""

    def nowhere(source, *_, **__):
        raise OSError(f"{source} is not a local folder")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", nowhere)


def test_without_a_tokenizer_the_server_tokenizes(no_tokenizer):
    with client(tokenizer=None) as prm:
        scored(prm)
        assert prm.server.asked["tokenize"] > 0


def test_without_a_tokenizer_anywhere(no_tokenizer):
    with client(tokenizer=None, tokenizes=False) as prm, pytest.raises(RecipeError, match="give tokenizer="):
        prm.score(*SOLUTIONS[0])
    with client(tokenizer="some/folder") as prm, pytest.raises(RecipeError, match="'some/folder'"):
        prm.score(*SOLUTIONS[0])  # one that was named is not replaced by another


TOKENIZERS = {
    "er-prm": vocabularies.llama3,
    "genprm": vocabularies.qwen25,
    "granite-3.3-prm": vocabularies.granite,
    "judge": vocabularies.qwen25,
    "llama-prm800k": vocabularies.llama3,
    "math-psa": vocabularies.qwen25,
    "math-shepherd": real_tokenizer,
    "openrlhf": real_tokenizer,
    "pathfinder": vocabularies.qwen25,
    "qwen-prm800k": vocabularies.qwen25,
    "rlhflow-deepseek": vocabularies.llama3,
    "rlhflow-mistral": vocabularies.llama3,
    "versaprm": vocabularies.llama3,
    "visualprm": vocabularies.qwen25,
}


def test_all_recipes_that_read_the_output_head_are_here():
    own_tokens = {*recipe_names()} - {"lets-verify"}  # whose tokens the user gives
    assert {*TOKENIZERS} == {name for name in own_tokens if load_recipe(name).head == "lm_head"}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_servers_tokenizer_makes_the_same_prompts(name):
    own = TOKENIZERS[name]()
    recipe = load_recipe(name)
    question, steps = "What is 2 + 3 * 4?", ["3 * 4 = 12", "+", "日本 2 + 2", "2 + 12 = 14. The answer is: 14"]

    async def prompts(url):
        transport = Transport(url, None, timeout=20, max_retries=0, max_concurrency=4)
        try:
            tokenizer = ServerTokenizer(transport, MODEL)
            bound = await asyncio.to_thread(bind, recipe, tokenizer)
            scoring = await asyncio.to_thread(Scoring, question, steps, bound)
            return bound, scoring.prompts
        finally:
            await transport.close()

    with listening(CompletionsServer(own, 1).app) as url:
        bound, asked = asyncio.run(prompts(url))
    expected = bind(recipe, own)
    assert (bound.scoring_ids, bound.step_tags, bound.tag) == (expected.scoring_ids, expected.step_tags, expected.tag)
    assert asked == Scoring(question, steps, expected).prompts
