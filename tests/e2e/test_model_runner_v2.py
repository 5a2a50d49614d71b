"""Model Runner V2, with which vLLM serves on GPUs, gives the scores of V1, with which it serves on CPUs.

Both are fed the same series of prompts, cut the same way by vLLM's scheduler. V2 runs in a process of its own, which
starts its engines as a GPU's worker does: see model_runner_v2.py.
"""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from checkpoints import MINUS, PLUS, SMALL, TAG, save, tied_llama
from conftest import ROOT
from oracle import TOLERANCE, Oracle, difference, words
from series_of_prompts import BLOCK, Answers, Prompt, Series, answers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedModel

from vllm_prm.engine.positions import positions_request

OTHER = (5, PLUS)  # scoring tokens that are not the engine's: such a request reads no cache
LONG = 420


def two_windows_to_one() -> PreTrainedModel:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    sizes = {**SMALL, "num_hidden_layers": 3, "head_dim": 32}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, sliding_window=64, layer_types=kinds))


# Blocks that hold one long prompt, not four; and layers in each KV group, of which one is the score cache.
MODELS = {tied_llama: (20, [3]), two_windows_to_one: (40, [2, 2])}


def token_ids(seed: int) -> list[int]:
    """Of a prompt: random words, of which every 15th ends a step."""
    ids = words(random.Random(seed), LONG)
    ids[14::15] = [TAG] * len(ids[14::15])
    return ids


def every_other_step(ids: list[int]) -> list[int]:
    return [position for position, id_ in enumerate(ids) if id_ == TAG][::2]


def by_positions(ids: list[int]) -> Prompt:
    return Prompt(ids, {"extra_kwargs": positions_request(every_other_step(ids))})


def batches() -> list[list[Prompt]]:
    """Prompts of all kinds that do not fit in together; then those that begin like one of them."""
    first, second, third, fourth = map(token_ids, range(4))
    return [
        [Prompt(first), by_positions(second), Prompt(third), Prompt(fourth, {"returned_token_ids": list(OTHER)})],
        [Prompt(first[:300])],
        [Prompt([*first[:295], *second[295:]])],
        [Prompt(first), by_positions(first)],
    ]


def expected(oracle: Oracle, prompt: Prompt) -> torch.Tensor:
    """[steps * scoring tokens] probabilities."""
    if "extra_kwargs" in prompt.params:
        return oracle.logits_at(prompt.ids, every_other_step(prompt.ids)).softmax(-1).flatten()
    return oracle.probabilities(prompt.ids, TAG, OTHER if prompt.params else (PLUS, MINUS)).flatten()


@dataclass(frozen=True)
class Runs:
    """Of the same series on both runners, and of one on V2 whose slots are those of other tokens."""

    folders: list[str]
    v1: list[Answers]
    v2: list[Answers]
    shifted: Answers


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("runners")
    folders = [save(folder / build.__name__, build) for build in MODELS]
    all_series = [Series(path, blocks, batches()) for path, (blocks, _) in zip(folders, MODELS.values(), strict=True)]
    shifted = Series(folders[0], 20, [[Prompt(token_ids(0))]], slot_shift=1)
    (folder / "series").write_bytes(pickle.dumps([*all_series, shifted]))
    command = [sys.executable, "-m", "model_runner_v2", str(folder / "series"), str(folder / "answers")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            v1 = [answers(series) for series in all_series]
            process.wait(600)
        finally:
            process.kill()
    assert process.returncode == 0, (folder / "log").read_text()[-10_000:]
    *v2, wrong = pickle.loads((folder / "answers").read_bytes())
    return Runs(folders, v1, v2, wrong)


@pytest.fixture(params=range(len(MODELS)), ids=[build.__name__ for build in MODELS])
def model(request) -> int:
    return request.param


def test_both_runners_ran(runs, model):
    assert runs.v1[model].runner == "vllm.v1.worker.cpu_model_runner"
    assert runs.v2[model].runner == "vllm.v1.worker.cpu.model_runner"
    for answered in (runs.v1[model], runs.v2[model]):
        assert sorted(answered.groups) == list(MODELS.values())[model][1]


def test_prompts_were_cut_preempted_and_shared_in_the_same_way(runs, model):
    v1, v2 = runs.v1[model], runs.v2[model]
    assert v2.schedule == v1.schedule
    assert v2.preempted == v1.preempted
    assert v2.cached == v1.cached
    chunks = {tokens for step in v1.schedule for tokens in step.values()}
    assert any(tokens % BLOCK for tokens in chunks)
    assert {2, 3} <= set(v1.preempted), "a request of each kind was to be preempted: shrink the cache"
    assert min(v1.cached[2] + v1.cached[3]) > 0, "no blocks were shared"


def test_scores_are_those_of_transformers(runs, model):
    oracle = Oracle(runs.folders[model])
    probabilities = [expected(oracle, prompt) for batch in batches() for prompt in batch]
    for answered in (runs.v1[model], runs.v2[model]):
        for scores, right in zip(sum(answered.scores, []), probabilities, strict=True):
            assert difference(scores, right) < TOLERANCE


def test_a_slot_beside_the_right_one_is_noticed(runs):
    right, wrong = runs.v2[0].scores[0][0], runs.shifted.scores[0][0]
    assert difference(wrong, right) > 100 * TOLERANCE


def test_the_score_cache_says_once_what_it_takes(runs, model):
    """vLLM binds a small cache first, to measure what CUDA graphs take."""
    assert len(runs.v1[model].logged) == 1
    assert runs.v2[model].logged == runs.v1[model].logged
