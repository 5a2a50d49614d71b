"""The ways to score (ways.py), each in a process of its own, which works only while asked to."""

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
from ways import Engine, Transformers
from workloads import Batches

UNSCORED = ("floor", "floor_reuse", "floor#2", "logprobs_time")
WHOLE_LOGITS = ("logprobs", "logprobs_time", "token_logprobs", "transformers")  # hold gigabytes of logits for a moment


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
    processor: float = 0.0  # seconds of all cores, which another's work on the machine makes longer by little
    peak: tuple[int, int] = (0, 0)  # resident memory of the process before the work, and its maximum during it


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
            processor = -time.process_time()
            clock[0] = time.perf_counter()
            for number, batch in enumerate(batches, start=1):
                if timed:
                    found, finished = worker.run_timed(batch)
                    outputs += found
                else:
                    outputs += worker.run(batch)
                clock[number] = time.perf_counter()
            processor += time.process_time()
        each = [end - start for start, end in pairwise(clock)]
        prompts = [ids for batch in batches for ids in batch]
        scores = [] if way in UNSCORED else [worker.scores(*pair) for pair in zip(prompts, outputs, strict=True)]
        cached = [worker.cached(output) for output in outputs]
        peaks = (peak.before, peak.most)
        spent = {"pooler": worker.inside["pooler"], "forward": worker.inside["model"], "processor": processor}
        pipe.send(Replay(sum(each), scores, cached, each, finished, **spent, peak=peaks))


def largest_difference(one: Replay, other: Replay) -> float:
    """Between the scores of two ways; raises if a step is missing from either."""
    assert [len(s) for s in one.scores] == [len(s) for s in other.scores], "a step is missing"
    pairs = zip(one.scores, other.scores, strict=True)
    return max((abs(a - b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)), default=0.0)
