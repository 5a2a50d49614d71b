"""Requests that are preempted in the middle and run again give each step once, at its own place."""

from __future__ import annotations

import random

from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens


def test_preempted_requests_keep_their_scores(checkpoint):
    folder = checkpoint("mistral")
    options = {
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 128,
        "long_prefill_token_threshold": 32,  # four prompts advance side by side
        "max_num_seqs": 4,
        "block_size": 32,
        "num_gpu_blocks_override": 16,  # 512 tokens: not room for three prompts at once
        "scheduler_reserve_full_isl": False,  # so the scheduler starts them anyway, and must preempt
        "max_model_len": 448,
        "disable_log_stats": False,
    }
    rng = random.Random(5)
    prompts = [prompt(rng, 26)[:400] for _ in range(6)]
    with running(folder, pooler_config=step_config(), **options) as llm:
        outputs = llm.encode([tokens(p) for p in prompts], pooling_task="embed", use_tqdm=False)
        preempted = {m.name: m.value for m in llm.get_metrics() if hasattr(m, "value")}["vllm:num_preemptions"]
    assert preempted > 0, "this engine no longer preempts here, so the test shows nothing: shrink its cache"
    oracle = Oracle(folder)
    for ids, output in zip(prompts, outputs, strict=True):
        assert difference(output.outputs.data, oracle.probabilities(ids).flatten()) < TOLERANCE
