"""One engine in this process that generates text and scores steps, against the scores of a pooling engine."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from conftest import ROOT, TINY_PRM, running
from documentation import run_block
from tiny_server import SHARES, SOLUTIONS, shares_of_solutions

from vllm_prm import PRM, EngineError, RecipeError, RequestError, UnsupportedError, load_recipe

BLOCK, LONGEST = 32, 512  # the smallest block of the CPU
OPTIONS = {"max_model_len": LONGEST, "block_size": BLOCK, "enable_chunked_prefill": True, "max_num_batched_tokens": 256}
TEXT = "Mia has 12 apples. Step 1: 12"
CHANGED = {"activation": "sigmoid", "scoring_tokens": {"good": {"piece": "▁+", "id": 332, "weight": 1.0}}}


@pytest.fixture(scope="module")
def pooled():
    """What a pooling engine says of SOLUTIONS."""
    recipe = load_recipe(TINY_PRM + "/prm.json")
    with running(TINY_PRM, **OPTIONS, hf_overrides={"prm": recipe.to_json()}) as llm, PRM.from_llm(llm) as prm:
        yield [scores.step_scores for scores in prm.score_batch(SOLUTIONS, progress=False)]
    assert prm.recipe == recipe


@pytest.fixture(scope="module")
def llm(pooled):
    """An engine that knows nothing of PRMs."""
    with running(TINY_PRM, **OPTIONS, runner="generate", convert="auto") as llm:
        yield llm


@pytest.fixture
def prm(llm):
    llm.reset_prefix_cache()
    return PRM.from_llm(llm)


def texts():
    """Settings of texts that are generated while steps are scored."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    settings = [
        {"temperature": 0.3, "top_k": 2, "seed": 1},
        {"temperature": 0.7, "top_p": 0.5, "min_p": 0.1, "presence_penalty": 1.5, "logit_bias": {332: 50.0}},
        {"temperature": 0.0, "repetition_penalty": 1.9, "logprobs": 3},
        {"temperature": 0.0, "structured_outputs": StructuredOutputsParams(regex="( 1| 2){24}")},
    ]
    return [SamplingParams(max_tokens=24, ignore_eos=True, **each) for each in settings]


def sampling_by(runner, mode):
    """A runner whose sampler is that of an engine with --logprobs-mode MODE."""
    from vllm.v1.sample.sampler import Sampler

    if isinstance(runner.sampler, Sampler):
        return patch.object(runner, "sampler", Sampler(mode))
    return patch.object(runner.sampler, "logprobs_mode", mode)  # Model Runner V2's


@contextmanager
def beside(llm, settings):
    """Texts by these settings are generated in the same batches as all reads; their answers, when it is over."""
    generate, answers = llm.generate, []

    def both(batch, params, **options):
        prompts = [{"prompt_token_ids": llm.get_tokenizer().encode(TEXT)} for _ in settings]
        # Texts first, so that they are under way while the reads come in.
        outputs = generate([*prompts, *batch], [*settings, *[params] * len(batch)], **options)
        answers.extend(outputs[: len(settings)])
        return outputs[len(settings) :]

    with patch.object(llm, "generate", both):
        yield answers


@contextmanager
def reads(llm):
    """The token ids of all prompts that the engine is asked to continue."""
    generate, prompts = llm.generate, []

    def listed(batch, *args, **options):
        prompts.extend(prompt["prompt_token_ids"] for prompt in batch)
        outputs = generate(batch, *args, **options)
        computed.append(sum(len(output.prompt_token_ids) - output.num_cached_tokens for output in outputs))
        return outputs

    computed = []
    prompts_and_computed = prompts, computed
    with patch.object(llm, "generate", listed):
        yield prompts_and_computed


def test_the_scores_of_a_pooling_engine(prm, pooled):
    for scores, expected in zip(prm.score_batch(SOLUTIONS, progress=False), pooled, strict=True):
        assert list(scores.step_scores) == pytest.approx(expected, abs=1e-5)


def test_as_the_page_says(llm, pooled, monkeypatch):
    """docs/one-engine.md; its engine is this one."""
    monkeypatch.setattr("vllm.LLM", lambda model: llm)
    monkeypatch.chdir(ROOT)
    names = run_block("docs/one-engine.md", "from vllm import LLM", {})
    assert list(names["prm"].score(*SOLUTIONS[0]).step_scores) == pytest.approx(pooled[0], abs=1e-5)


def test_probabilities_over_the_whole_vocabulary(llm):
    """Which is what such an engine gives: they are taken as they are."""
    recipe = load_recipe(SHARES)
    for (question, steps), expected in zip(SOLUTIONS, shares_of_solutions(3), strict=False):
        found = PRM.from_llm(llm, recipe).score(question, steps).step_scores
        assert list(found) == pytest.approx(expected, abs=1e-5)


def test_the_prefix_cache_makes_steps_cheap(prm):
    with reads(prm.llm) as (prompts, computed):
        prm.score_batch(SOLUTIONS, progress=False)
    prefixes = {tuple(prompt[:length]) for prompt in prompts for length in range(1, len(prompt) + 1)}
    assert len(prompts) > 100
    assert sum(computed) <= 1.2 * len(prefixes) + BLOCK * len(prompts)


def test_a_step_is_read_once(prm):
    question, steps = SOLUTIONS[0]
    for count in range(1, len(steps) + 1):
        with reads(prm.llm) as (prompts, _):
            scores = prm.score_batch([(question, steps[:count])] * 3, progress=False)
        assert len(prompts) == 1
        assert {len(result) for result in scores} == {count}
    with reads(prm.llm) as (prompts, _):
        again = prm.score(question, steps)
    assert prompts == []
    assert again.num_cached_tokens > 0.9 * again.num_prompt_tokens


def test_another_model_is_read_anew(prm):
    question, steps = SOLUTIONS[1]
    before = prm.score(question, steps)

    def turn(model):
        model.model.norm.weight.data.neg_()  # not a matrix, of which a CPU's kernels keep copies

    prm.llm.apply_model(turn)
    try:
        assert np.abs(np.subtract(prm.score(question, steps).step_scores, before.step_scores)).max() > 0.01
    finally:
        prm.llm.apply_model(turn)
    assert prm.score(question, steps).step_scores == pytest.approx(before.step_scores, abs=1e-5)


@pytest.mark.parametrize("mode", ["raw_logits", "processed_logprobs", "processed_logits"])
def test_scores_are_the_same_by_every_logprobs_mode(llm, pooled, mode):
    """The sampler is that of an engine with --logprobs-mode MODE. Beside the reads, texts by every other setting."""
    (runner,) = llm.collective_rpc(lambda worker: worker.model_runner)
    llm.reset_prefix_cache()
    with (
        sampling_by(runner, mode),
        patch.object(llm.model_config, "logprobs_mode", mode),
        beside(llm, texts()) as answers,
    ):
        results = PRM.from_llm(llm).score_batch(SOLUTIONS, progress=False)
    for scores, expected in zip(results, pooled, strict=True):
        assert list(scores.step_scores) == pytest.approx(expected, abs=1e-5)
    assert {len(answer.outputs[0].token_ids) for answer in answers} == {24}
    logits = np.array([scores.logits for scores in results[:1]])
    assert (logits.max() > 0) == mode.endswith("_logits")  # log-probabilities are below 0, logits need not be


def test_generation_beside_it_is_the_same(prm):
    from vllm import SamplingParams

    greedy = SamplingParams(temperature=0, max_tokens=24)
    (alone,) = prm.llm.generate([TEXT], greedy, use_tqdm=False)
    prm.score_batch(SOLUTIONS, progress=False)
    (beside,) = prm.llm.generate([TEXT], greedy, use_tqdm=False)
    assert beside.outputs[0].token_ids == alone.outputs[0].token_ids


def test_a_bad_solution_costs_only_itself(prm):
    question, steps = SOLUTIONS[0]
    items = [(question, steps), (question, ["x " * LONGEST]), (question, [""])]
    good, too_long, empty = prm.score_batch(items, on_error="return", progress=False)
    assert len(good) == len(steps)
    assert isinstance(too_long, RequestError)
    assert f"the model takes {LONGEST - 1}" in str(too_long)
    assert isinstance(empty, RequestError)


def test_the_progress_bar_counts_reads(prm, capsys):
    prm.score_batch(SOLUTIONS[:5])
    shown = capsys.readouterr().err
    num_steps = sum(len(steps) for _, steps in SOLUTIONS[:5])
    assert f"{num_steps}/{num_steps}" in shown


def test_what_it_cannot_score_is_refused(llm):
    recipe = load_recipe(TINY_PRM + "/prm.json").to_dict()
    with pytest.raises(UnsupportedError, match="--logprobs-mode raw_logits"):
        PRM.from_llm(llm, load_recipe({**recipe, **CHANGED}))
    with pytest.raises(RecipeError, match="math-shepherd"):
        PRM.from_llm(llm, "math-shepherd")


def test_closing_leaves_the_engine_running(llm):
    prm = PRM.from_llm(llm)
    prm.close()
    with pytest.raises(EngineError, match="closed"):
        prm.score(*SOLUTIONS[0])
    with PRM.from_llm(llm) as another:
        assert len(another.score(*SOLUTIONS[0])) == len(SOLUTIONS[0][1])


def test_images_are_refused(prm):
    part = {"type": "image_url", "image_url": {"url": "https://example.com/never-fetched.png"}}
    refused, scored = prm.score_batch([([part], ["a"]), SOLUTIONS[0]], on_error="return", progress=False)
    assert isinstance(refused, RequestError)
    assert "images need a pooling engine" in str(refused)
    assert len(scored) == len(SOLUTIONS[0][1])
