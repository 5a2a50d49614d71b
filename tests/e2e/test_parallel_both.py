"""Two pipeline stages of two tensor-parallel ranks each give the scores of one process."""

from __future__ import annotations

import os
import random

import pytest
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens


@pytest.mark.skipif("PRM_LONG" not in os.environ, reason="half a minute, beside tests of each: set PRM_LONG=1")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="four processes need two cores: use a machine that has them")
def test_two_by_two(checkpoint, monkeypatch):
    folder = checkpoint("mistral")
    rng = random.Random(3)
    prompts = [prompt(rng, steps) for steps in (1, 5, 20)]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1|0|1")  # two processes share a core
    parallel = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    # vLLM's CPU worker makes the buffers between stages in its warm-up, which it leaves out with enforce_eager.
    warm_up = {"enforce_eager": False, "compilation_config": {"mode": 2, "backend": "eager"}}
    with running(folder, pooler_config=step_config(), max_model_len=2048, **parallel, **warm_up) as llm:
        outputs = llm.encode([tokens(ids) for ids in prompts], pooling_task="embed", use_tqdm=False)
    oracle = Oracle(folder)
    for ids, output in zip(prompts, outputs, strict=True):
        assert difference(output.outputs.data, oracle.probabilities(ids).flatten()) < TOLERANCE
