"""The engines that the benchmarks compare, each in a process of its own, on the same random weights.

  ours     convert=embed, STEP pooler config, scores kept beside the prefix cache
  whole    the same without prefix caching: every prompt is computed whole
  floor    convert=embed, no STEP: vLLM's own embedding, which is the forward pass and one row per prompt
  native   convert=classify with the classifier built from two head rows, task token_classify, STEP: the only
           combination of vLLM's own flags that gives right numbers; it never reads the prefix cache

Engines work one at a time, in turn, so a machine whose speed drifts slows all of them alike.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TAG, GOOD, BAD = 12902, 648, 387
VOCABULARY = 128_256  # Llama 3's
Batches = list[list[list[int]]]  # batches, sent one after the other, of prompts as token ids

_CONVERTED = {"runner": "pooling", "convert": "embed"}
_STEP = {"pooling_type": "STEP", "step_tag_id": TAG, "returned_token_ids": [GOOD, BAD]}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("embed", {**_CONVERTED, "pooler_config": _STEP, "enable_prefix_caching": True}),
    "whole": ("embed", {**_CONVERTED, "pooler_config": _STEP, "enable_prefix_caching": False}),
    "floor": ("embed", {**_CONVERTED, "enable_prefix_caching": False}),
    "native": (
        "token_classify",
        {
            "runner": "pooling",
            "convert": "classify",
            "hf_overrides": {
                "classifier_from_token": ["good", "bad"],
                "method": "no_post_processing",
                "num_labels": 2,
            },
            "pooler_config": {"task": "token_classify", "tok_pooling_type": "STEP", "step_tag_id": TAG},
        },
    ),
}


@dataclass
class Replay:
    """What an engine did with some batches. scores: per prompt, flat; cached: tokens not computed, per prompt."""

    seconds: float
    scores: list[list[float]]
    cached: list[int]


def build_model(folder: Path) -> int:
    """A Llama of about 60M parameters and a word tokenizer; returns the number of parameters."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY)}
    words["good"], words["bad"] = words.pop(f"w{GOOD}"), words.pop(f"w{BAD}")
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


@contextmanager
def engines(model: str, ways: list[str], **options: Any) -> Iterator[dict[str, Connection]]:
    """One process per way, ready to replay; killed on the way out."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # each engine is a process of ours already
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    context = get_context("spawn")
    pipes, processes = {}, []
    try:
        for way in ways:
            pipes[way], theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(model, way, options, theirs), daemon=True))
            processes[-1].start()
            theirs.close()
            pipes[way].recv()
            print(f"{way}: engine ready", file=sys.stderr)
        yield pipes
    finally:
        for process in processes:
            process.kill()


def replay(pipe: Connection, batches: Batches) -> Replay:
    """Send the batches one after the other to an engine whose prefix cache is empty."""
    pipe.send(batches)
    return pipe.recv()


def _serve(model: str, way: str, more: dict[str, Any], pipe: Connection) -> None:
    from vllm import LLM
    from vllm.config import PoolerConfig

    task, options = WAYS[way]
    options = {"dtype": "float32", "enable_chunked_prefill": True, "max_num_batched_tokens": 4096, **options, **more}
    if "pooler_config" in options:
        options["pooler_config"] = PoolerConfig(**options["pooler_config"])
    llm = LLM(model, **options)
    pipe.send("ready")
    while True:
        batches = pipe.recv()
        llm.reset_prefix_cache()
        outputs = []
        start = time.perf_counter()
        for batch in batches:
            outputs += llm.encode([{"prompt_token_ids": ids} for ids in batch], pooling_task=task, use_tqdm=False)
        seconds = time.perf_counter() - start
        scores = [output.outputs.data.flatten().tolist() for output in outputs]
        pipe.send(Replay(seconds, scores, [output.num_cached_tokens or 0 for output in outputs]))


def largest_difference(ours: Replay, others: Replay) -> float:
    """Between the scores of two ways; raises if a step is missing from either."""
    assert [len(s) for s in ours.scores] == [len(s) for s in others.scores], "a step is missing"
    pairs = zip(ours.scores, others.scores, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
