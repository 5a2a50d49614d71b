"""The ways to score that the benchmarks compare, each in a process of its own, on the same weights.

  ours          convert=embed, STEP pooler config, scores kept beside the prefix cache
  whole         the same without prefix caching: every prompt is computed whole
  floor         convert=embed, no STEP: vLLM's own embedding, which is the forward pass and one row per prompt
  floor_reuse   the floor with prefix caching: what reuse leaves to do, without any scores
  native        convert=classify with the classifier built from two head rows, task token_classify, STEP: the only
                combination of vLLM's own flags that gives right numbers; it never reads the prefix cache
  logprobs      generation of one token with prompt_logprobs=20, the scoring tokens picked out at the tags
  transformers  the model card's recipe: full logits of padded batches of 8, scoring columns at the tags

All vLLM engines get the same settings (dtype, lengths, batch, block size). A process works only while asked to.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from memory import keeping_freed_memory, peak_of
from model import Tokens
from workloads import Batches

UNSCORED = ("floor", "floor_reuse", "floor#2")
WHOLE_LOGITS = ("logprobs", "transformers")  # hold gigabytes of logits for a moment: they must give them back
TOP = 20  # vLLM's own limit of logprobs per position (--max-logprobs)


@dataclass
class Replay:
    """What a way did with some batches.

    scores: per prompt, the probabilities of the two scoring tokens at every step, flat. cached: tokens not computed,
    per prompt. each: seconds of each batch. finished: seconds until each prompt was answered, where asked for.
    pooler: seconds of all that inside the pooler, which is the only place where the vLLM ways that pool differ.
    forward: seconds inside the model. On a GPU both are the time to start kernels, not to run them.
    """

    seconds: float
    scores: list[list[float]]
    cached: list[int]
    each: list[float]
    finished: list[float]
    pooler: float = 0.0
    forward: float = 0.0
    peak: tuple[int, int] = (0, 0)  # resident memory of the process before the work, and its maximum during it


def options_of(way: str, tokens: Tokens) -> tuple[str, dict[str, Any]]:
    """vLLM's pooling task and engine options of a way; `WAY#2` is a second engine of the same."""
    step = {"pooling_type": "STEP", "step_tag_id": tokens.tag}
    scoring = {**step, "returned_token_ids": list(tokens.scoring)}
    embed: dict[str, Any] = {"runner": "pooling", "convert": "embed"}
    classifier = {
        "classifier_from_token": list(tokens.pieces),
        "method": "no_post_processing",
        "num_labels": len(tokens.pieces),
    }
    return {
        "ours": ("embed", {**embed, "pooler_config": scoring, "enable_prefix_caching": True}),
        "whole": ("embed", {**embed, "pooler_config": scoring, "enable_prefix_caching": False}),
        "floor": ("embed", {**embed, "enable_prefix_caching": False}),
        "floor_reuse": ("embed", {**embed, "enable_prefix_caching": True}),
        "native": (
            "token_classify",
            {
                "runner": "pooling",
                "convert": "classify",
                "hf_overrides": classifier,
                "pooler_config": {"task": "token_classify", "tok_pooling_type": "STEP", "step_tag_id": tokens.tag},
                "enable_prefix_caching": False,
            },
        ),
        "logprobs": ("generate", {"enable_prefix_caching": False, "max_logprobs": TOP}),
    }[way.split("#")[0]]


class Engine:
    """A vLLM engine in this process."""

    def __init__(self, model: str, way: str, tokens: Tokens, more: dict[str, Any]) -> None:
        from vllm import LLM, PoolingParams, SamplingParams
        from vllm.config import PoolerConfig

        self.tokens = tokens
        self.task, options = options_of(way, tokens)
        options = {"dtype": "float32", "enable_chunked_prefill": True, "max_num_batched_tokens": 4096} | options | more
        if self.task == "generate":  # it keeps the logits of the whole vocabulary for every token of a batch
            options["max_num_batched_tokens"] = min(1024, options["max_num_batched_tokens"])
        if "pooler_config" in options:
            options["pooler_config"] = PoolerConfig(**options["pooler_config"])
        self.llm = LLM(model, **options)
        self.inside = {"model": 0.0, "pooler": 0.0}  # seconds
        if self.task == "generate":
            self.params: Any = SamplingParams(max_tokens=1, temperature=0.0, logprobs=TOP, prompt_logprobs=TOP)
        else:
            self.params = PoolingParams(task=self.task)
            self.llm.apply_model(lambda model: self._watch("pooler", model.pooler))
        self.llm.apply_model(lambda model: self._watch("model", model))

    def _watch(self, name: str, module: Any) -> None:
        def start(*_: Any) -> None:
            self.inside[name] -= time.perf_counter()

        def stop(*_: Any) -> None:
            self.inside[name] += time.perf_counter()

        module.register_forward_pre_hook(start)
        module.register_forward_hook(stop)

    def forget(self) -> None:
        """As if nothing had been sent yet."""
        self.llm.reset_prefix_cache()
        self.inside = dict.fromkeys(self.inside, 0.0)

    def run(self, batch: list[list[int]]) -> list[Any]:
        prompts = [{"prompt_token_ids": ids} for ids in batch]
        if self.task == "generate":
            return self.llm.generate(prompts, self.params, use_tqdm=False)
        return self.llm.encode(prompts, self.params, pooling_task=self.task, use_tqdm=False)

    def run_timed(self, batch: list[list[int]]) -> tuple[list[Any], list[float]]:
        """The same, and when each answer came; step by step, because LLM.encode tells only when all are done."""
        engine, start = self.llm.llm_engine, time.perf_counter()
        for number, ids in enumerate(batch):
            engine.add_request(str(number), {"prompt_token_ids": ids}, self.params.clone())
        answers: dict[int, tuple[Any, float]] = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    answers[int(output.request_id)] = (output, time.perf_counter() - start)
        ordered = [answers[number] for number in range(len(batch))]
        return [output for output, _ in ordered], [seconds for _, seconds in ordered]

    def scores(self, ids: list[int], output: Any) -> list[float]:
        if self.task != "generate":
            return output.outputs.data.flatten().tolist()
        import torch

        after = [*output.prompt_logprobs[1:], output.outputs[0].logprobs[0]]  # what follows each prompt token
        rows = [[after[i][id_].logprob for id_ in self.tokens.scoring] for i in steps(ids, self.tokens.tag)]
        return torch.tensor(rows).softmax(-1).flatten().tolist()

    def cached(self, output: Any) -> int:
        return output.num_cached_tokens or 0


class Transformers:
    """The recipe of math-shepherd's model card: full logits, softmax over two columns, read at the tags."""

    def __init__(self, model: str, tokens: Tokens, dtype: str, batch: int = 8) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.tokens, self.batch = tokens, batch
        self.inside = {"model": 0.0, "pooler": 0.0}  # not watched
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(self.device).eval()

    def forget(self) -> None:
        pass

    def run(self, batch: list[list[int]]) -> list[Any]:
        import torch

        outputs: list[Any] = []
        with torch.inference_mode():
            for start in range(0, len(batch), self.batch):
                part = batch[start : start + self.batch]
                longest = max(map(len, part))
                ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in part], device=self.device)
                mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in part], device=self.device)
                logits = self.model(ids, attention_mask=mask).logits[:, :, list(self.tokens.scoring)]
                probabilities = logits.float().softmax(-1)
                outputs += [row[prompt == self.tokens.tag] for prompt, row in zip(ids, probabilities, strict=True)]
        return outputs

    def scores(self, ids: list[int], output: Any) -> list[float]:
        return output.flatten().tolist()

    def cached(self, output: Any) -> int:
        return 0


def steps(ids: list[int], tag: int) -> list[int]:
    return [i for i, id_ in enumerate(ids) if id_ == tag]


@contextmanager
def engines(
    model: str, ways: list[str], tokens: Tokens, options: dict[str, Any] | None = None, keep_freed: bool = True
) -> Iterator[dict[str, Connection]]:
    """One process per way, ready to replay; killed on the way out. Options go to every vLLM engine.

    keep_freed: the allocator keeps freed memory, for times that repeat; not where memory itself is measured.
    """
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # each engine is a process of ours already
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    context = get_context("spawn")
    pipes, processes = {}, []
    try:
        for way in ways:
            pipes[way], theirs = context.Pipe()
            processes.append(
                context.Process(target=_serve, args=(model, way, tokens, options or {}, theirs), daemon=True)
            )
            with keeping_freed_memory(keep_freed and way not in WHOLE_LOGITS):
                processes[-1].start()
            theirs.close()
            pipes[way].recv()
            print(f"{way}: ready", file=sys.stderr)
        yield pipes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def replay(pipe: Connection, batches: Batches, timed: bool = False) -> Replay:
    """Send the batches one after the other to an engine whose prefix cache is empty.

    timed: note when each answer came (vLLM engines only).
    """
    pipe.send((batches, timed))
    return pipe.recv()


def _serve(model: str, way: str, tokens: Tokens, options: dict[str, Any], pipe: Connection) -> None:
    if way == "transformers":
        worker: Any = Transformers(model, tokens, options.get("dtype", "float32"))
    else:
        worker = Engine(model, way, tokens, options)
    pipe.send("ready")
    while True:
        batches, timed = pipe.recv()
        worker.forget()
        outputs: list[Any] = []
        finished: list[float] = []
        clock = [0.0] * (len(batches) + 1)
        with peak_of() as peak:
            clock[0] = time.perf_counter()
            for number, batch in enumerate(batches, start=1):
                if timed:
                    found, finished = worker.run_timed(batch)
                    outputs += found
                else:
                    outputs += worker.run(batch)
                clock[number] = time.perf_counter()
        each = [end - start for start, end in pairwise(clock)]
        prompts = [ids for batch in batches for ids in batch]
        scores = [] if way in UNSCORED else [worker.scores(*pair) for pair in zip(prompts, outputs, strict=True)]
        cached = [worker.cached(output) for output in outputs]
        peaks = (peak.before, peak.most)
        spent = {"pooler": worker.inside["pooler"], "forward": worker.inside["model"]}
        pipe.send(Replay(sum(each), scores, cached, each, finished, **spent, peak=peaks))


def largest_difference(one: Replay, other: Replay) -> float:
    """Between the scores of two ways; raises if a step is missing from either."""
    assert [len(s) for s in one.scores] == [len(s) for s in other.scores], "a step is missing"
    pairs = zip(one.scores, other.scores, strict=True)
    return max((abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)), default=0.0)
