"""How much slower is scoring steps than the forward pass alone, and than vLLM's native route?

Three ways over the same prompts and weights, each in an engine process of its own, in turn, several rounds, so
that a machine whose speed drifts slows all of them alike; the figures are ratios of neighbouring rounds:

  ours    convert=embed, STEP pooler config: scoring columns at the step tags
  floor   convert=embed, no STEP: vLLM's own embedding, which is the forward pass and one row per prompt
  native  convert=classify with the classifier built from two head rows, task token_classify, STEP: the only
          undocumented combination of vLLM's own flags that gives right numbers

Before timing, ours and native must give the same scores. This is not a test of search (repeated prefixes): all
prompts differ. The last line printed is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TAG, GOOD, BAD = 12902, 648, 387
VOCABULARY = 128_256  # Llama 3's
# Mean lengths of PRMBench solutions in Mistral v1 tokens: a question of 50, 11 steps of 30, the tag included.
QUESTION_TOKENS, STEPS, STEP_TOKENS = 50, 11, 30

CONVERTED = {"runner": "pooling", "convert": "embed"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": (
        "embed",
        {**CONVERTED, "pooler_config": {"pooling_type": "STEP", "step_tag_id": TAG, "returned_token_ids": [GOOD, BAD]}},
    ),
    "floor": ("embed", CONVERTED),
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


def make_prompts(count: int) -> list[dict[str, list[int]]]:
    rng = random.Random(0)
    words = [i for i in range(1000, 12000) if i != TAG]
    prompts = []
    for _ in range(count):
        ids = rng.choices(words, k=QUESTION_TOKENS)
        for _ in range(STEPS):
            ids += [*rng.choices(words, k=STEP_TOKENS - 1), TAG]
        prompts.append({"prompt_token_ids": ids})
    return prompts


def engine(model: str, way: str, count: int, pipe: Connection) -> None:
    """One engine process: score once, send the scores; then time a round for every message."""
    from vllm import LLM
    from vllm.config import PoolerConfig

    task, options = WAYS[way]
    options = dict(options)
    if pooler := options.pop("pooler_config", None):
        options["pooler_config"] = PoolerConfig(**pooler)
    # The same scheduling for all three: whole prompts, no prefix cache.
    llm = LLM(
        model,
        dtype="float32",
        max_model_len=1024,
        max_num_batched_tokens=4096,
        enable_prefix_caching=False,
        enable_chunked_prefill=True,
        **options,
    )
    prompts = make_prompts(count)

    def round_() -> list[Any]:
        return [o.outputs.data for o in llm.encode(prompts, pooling_task=task, use_tqdm=False)]

    pipe.send([values.flatten().tolist() for values in round_()])
    while pipe.recv():
        start = time.perf_counter()
        round_()
        pipe.send(time.perf_counter() - start)


def largest_difference(ours: list[list[float]], native: list[list[float]]) -> float:
    assert [len(s) for s in ours] == [len(s) for s in native] == [STEPS * 2] * len(ours), "a step is missing"
    return max(abs(a - b) for one, other in zip(ours, native, strict=True) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", help="a checkpoint folder instead of the random 60M Llama")
    parser.add_argument("--output", type=Path, help="also write the JSON document to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # each engine is a process of ours already
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "all")

    with tempfile.TemporaryDirectory() as folder:
        parameters = None if arguments.model else build_model(Path(folder))
        context = get_context("spawn")
        pipes, processes, scores = {}, [], {}
        try:
            for way in WAYS:
                pipes[way], theirs = context.Pipe()
                target = (arguments.model or folder, way, arguments.prompts, theirs)
                processes.append(context.Process(target=engine, args=target, daemon=True))
                processes[-1].start()
                theirs.close()
                scores[way] = pipes[way].recv()
                print(f"{way}: engine ready", file=sys.stderr)
            difference = largest_difference(scores["ours"], scores["native"])
            assert difference < 1e-5, f"ours and native differ by {difference}: nothing to time"
            seconds = run_rounds(pipes, arguments.rounds)
        finally:
            for process in processes:
                process.kill()
    report(seconds, arguments, parameters, difference)


def run_rounds(pipes: dict[str, Connection], rounds: int) -> dict[str, list[float]]:
    """Only one engine works at a time; each round starts with another one."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    order = list(WAYS)
    for number in range(rounds):
        for way in order:
            pipes[way].send(True)
            seconds[way].append(pipes[way].recv())
        print(f"round {number + 1}/{rounds}: { ({w: round(s[-1], 2) for w, s in seconds.items()}) }", file=sys.stderr)
        order = order[1:] + order[:1]
    return seconds


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace, parameters: int | None, diff: float) -> None:
    tokens = arguments.prompts * (QUESTION_TOKENS + STEPS * STEP_TOKENS)
    print(f"{arguments.prompts} solutions of {QUESTION_TOKENS} + {STEPS} x {STEP_TOKENS} tokens, float32")
    print(f"{'':8}{'seconds':>9}{'solutions/s':>13}{'tokens/s':>10}")
    for way, values in seconds.items():
        middle = statistics.median(values)
        print(f"{way:8}{middle:9.2f}{arguments.prompts / middle:13.1f}{tokens / middle:10.0f}")
    ratios = {}
    for other in ("floor", "native"):
        pairs = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds[other], strict=True)]
        ratios[f"ours/{other}"] = [min(pairs), statistics.median(pairs), max(pairs)]
        low, middle, high = ratios[f"ours/{other}"]
        print(f"throughput of ours / {other}: {middle:.3f} (rounds: {low:.3f} to {high:.3f})")
    document = {
        "benchmark": "throughput",
        "prompts": arguments.prompts,
        "rounds": arguments.rounds,
        "parameters": parameters,
        "vocabulary": VOCABULARY if parameters else None,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "seconds": seconds,
        "throughput_ratio_min_median_max": ratios,
        "largest_score_difference_to_native": diff,
    }
    line = json.dumps(document)
    if arguments.output:
        arguments.output.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
