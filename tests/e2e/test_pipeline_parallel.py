"""Two pipeline stages, of which only the last has the output head, give the scores of one."""

from __future__ import annotations

import os
import random

import pytest
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two stages need two cores: use a machine that has them")
@pytest.mark.parametrize(
    "kind",
    [
        "tied_llama",  # the last stage's head is the first one's embedding
        pytest.param(
            "mistral",
            marks=pytest.mark.skipif("PRM_LONG" not in os.environ, reason="the simpler head: set PRM_LONG=1"),
        ),
    ],
)
def test_two_stages(checkpoint, monkeypatch, kind):
    folder = checkpoint(kind)
    rng = random.Random(2)
    prompts = [prompt(rng, steps) for steps in (1, 2, 20, 50)]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    # vLLM's CPU worker makes the buffers between stages in its warm-up, which it leaves out with enforce_eager.
    warm_up = {"enforce_eager": False, "compilation_config": {"mode": 2, "backend": "eager"}}
    with running(folder, pooler_config=step_config(), pipeline_parallel_size=2, **warm_up) as llm:
        outputs = llm.encode([tokens(ids) for ids in prompts], pooling_task="embed", use_tqdm=False)
    oracle = Oracle(folder)
    for ids, output in zip(prompts, outputs, strict=True):
        assert difference(output.outputs.data, oracle.probabilities(ids).flatten()) < TOLERANCE
