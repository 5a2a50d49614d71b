"""A generate server that guesses tokens by n-grams, cuts prompts in pieces and preempts: scores are transformers'.

It samples by default with a low temperature and a high repetition penalty. Structured texts, and log-probabilities
behind sampling settings, are those of test_one_engine_served.py: with n-grams and too little memory vLLM 0.32 fails
such texts on a CPU, with scoring or without.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from conftest import TINY_PRM, running
from oracle import TOLERANCE, Oracle
from server import serving
from test_one_engine import beside
from tiny_server import SOLUTIONS, metric, prompt_of
from vllm import SamplingParams

from vllm_prm import PRM

GOOD, BAD = 332, 333  # of prm.json
FEW, OTHERS = SOLUTIONS[:24], SOLUTIONS[24:30]
NGRAMS = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
# Without top_k, and no request has a seed: of both a CPU's engine with drafts dies, in vLLM 0.32, with us or without.
SAMPLING = {"temperature": 0.2, "top_p": 0.3, "repetition_penalty": 1.9}
FLAGS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "384", "--block-size", "32"]
FLAGS += ["--speculative-config", json.dumps(NGRAMS), "--max-logprobs", "-1"]
FLAGS += ["--override-generation-config", json.dumps(SAMPLING)]
FLAGS += ["--max-num-batched-tokens", "64", "--long-prefill-token-threshold", "32", "--max-num-seqs", "8"]
# Room for one text of full length and its neighbours' beginnings: texts that grow side by side are preempted.
FLAGS += ["--num-gpu-blocks-override", "20", "--no-scheduler-reserve-full-isl"]
TEXTS = [
    {"temperature": 0, "logprobs": 5},  # with drafts in its batch, and log-probabilities of its own
    {"logprobs": 2},  # by the server's own sampling settings
    {"temperature": 1.0, "presence_penalty": 1.5},
    {"temperature": 0},
]


def right_scores(solutions):
    oracle = Oracle(TINY_PRM)
    prompts = [prompt_of(question, steps) for question, steps in solutions]
    logits = [oracle.logits_at(list(p.token_ids), list(p.positions), (GOOD, BAD)) for p in prompts]
    return [rows.softmax(-1)[:, 0].tolist() for rows in logits]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        log = tmp_path_factory.mktemp("log") / "flags.log"
        served = ["--prm", TINY_PRM + "/prm.json", "--runner", "generate", "--served-model-name", "tiny"]
        with serving(log, TINY_PRM, *FLAGS, *served) as url:
            yield url


def bodies():
    """Texts that repeat themselves, so that n-grams guess them, long enough not to fit in together."""
    text = "Mia has 12 apples. Step 1: 12 + 3 = 15. " * 4
    return [{"model": "tiny", "prompt": text, "max_tokens": 200, "ignore_eos": True, **more} for more in TEXTS]


async def scored(http, solutions):
    inputs = [{"question": question, "steps": steps} for question, steps in solutions]
    response = await http.post("/v1/prm/score", json={"model": "tiny", "inputs": inputs})
    assert response.status_code == 200, response.text
    return [entry["step_scores"] for entry in response.json()["data"]]


def test_scores_beside_texts_of_all_kinds(url):
    async def run():
        async with httpx.AsyncClient(base_url=url, timeout=300) as http:
            texts = [asyncio.create_task(http.post("/v1/completions", json=body)) for body in bodies() * 2]
            parts = [await scored(http, FEW[start : start + 4]) for start in range(0, len(FEW), 4)]
            return sum(parts, []), await asyncio.gather(*texts)

    scores, texts = asyncio.run(run())
    for found, right in zip(scores, right_scores(FEW), strict=True):
        assert found == pytest.approx(right, abs=TOLERANCE)
    assert {response.status_code for response in texts} == {200}
    for number, response in enumerate(texts):
        (choice,) = response.json()["choices"]
        if (count := bodies()[number % len(TEXTS)].get("logprobs")) is not None:
            assert {len(row) >= count for row in choice["logprobs"]["top_logprobs"]} == {True}
    with httpx.Client(base_url=url) as http:
        assert metric(http, "vllm:spec_decode_num_accepted_tokens_total") > 0, "nothing was guessed right"
        assert metric(http, "vllm:num_preemptions_total") > 0, "nothing was preempted: shrink the cache"


def test_scores_with_nothing_beside_them(url):
    """The engine gives its likeliest tokens then as well."""

    async def run():
        async with httpx.AsyncClient(base_url=url, timeout=300) as http:
            return await scored(http, OTHERS)

    for found, right in zip(asyncio.run(run()), right_scores(OTHERS), strict=True):
        assert found == pytest.approx(right, abs=TOLERANCE)


def test_offline_in_the_same_batches_as_texts_with_drafts(monkeypatch):
    # In a process of its own: after an engine with drafts, vLLM 0.32 makes no second one for a CPU in the same process.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    options = {"max_model_len": 512, "block_size": 32, "max_num_batched_tokens": 256, "max_logprobs": -1}
    with running(TINY_PRM, **options, runner="generate", convert="auto", speculative_config=NGRAMS) as llm:
        settings = [SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, logprobs=k) for k in (None, 3)]
        with beside(llm, settings) as answers:
            results = PRM.from_llm(llm).score_batch(FEW, progress=False)
    for scores, right in zip(results, right_scores(FEW), strict=True):
        assert list(scores.step_scores) == pytest.approx(right, abs=TOLERANCE)
    assert len(answers[1].outputs[0].logprobs) == 60
