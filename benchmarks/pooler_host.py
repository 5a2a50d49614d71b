"""What does the pooler cost the host? 1,000 finished requests of 500 tokens in one batch, head and score cache faked.

On a GPU the pooler's Python runs while the GPU waits for its next batch. Here the head and the cache cost next to
nothing, so that the time of a call of `StepPooler.forward` is that of its Python: for requests that leave their steps
to the tags in the prompt, and for those that name their positions, as PRM and our routes do. `token ids` is what vLLM
spends on the matrix of prompts that tags are looked up in; 0 where no request asks for it. Not measured: the GPU's
kernels, and vLLM's scheduler.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from turns import keep, machine

TAG, SCORING = 12902, (648, 387)  # Math-Shepherd's; here only numbers
STEPS = 13  # of a solution of PRMBench, the mean


class FakeHead:
    """Logits that are there already, as many as asked for."""

    def prepare(self, hidden: Any) -> None:
        return

    def __call__(self, hidden: Any, ids: Any) -> Any:
        return hidden[:, : len(ids)]


class FakeCache:
    """A score cache that has something for every position."""

    ready, slots = True, None

    def write(self, logits: Any) -> None:
        return

    def read(self, requests: Any, positions: Any) -> Any:
        return positions[:, None].expand(-1, len(SCORING)).float()


def new_pooler() -> Any:
    import torch
    from transformers import AutoTokenizer

    from vllm_prm.engine.settings import StepSettings
    from vllm_prm.engine.worker.pooler import StepPooler

    tiny_prm = Path(__file__).parents[1] / "examples" / "tiny-prm"
    settings = StepSettings(((TAG,),), SCORING, (1.0, 0.0))
    pooler = StepPooler(torch.nn.Linear(1, 1), settings, AutoTokenizer.from_pretrained(tiny_prm), FakeCache())
    object.__setattr__(pooler, "head", FakeHead())
    return pooler


def new_metadata(pooler: Any, by: str, requests: int, tokens: int) -> tuple[Any, float]:
    """vLLM's metadata of a batch of whole prompts, and the seconds that its matrix of token ids took."""
    import numpy as np
    import torch
    from vllm.pooling_params import PoolingParams
    from vllm.v1.pool.metadata import PoolingMetadata, PoolingStates

    from vllm_prm.engine.positions import positions_request

    rng = random.Random(0)
    prompts = [rng.choices(range(1000, 12000), k=tokens) for _ in range(requests)]
    params = []
    for prompt in prompts:
        positions = sorted(rng.sample(range(tokens), STEPS))
        for position in positions:
            prompt[position] = TAG
        params.append(PoolingParams(task="embed"))
        if by == "positions":
            params[-1].use_activation, params[-1].extra_kwargs = False, positions_request(positions)
        pooler.get_pooling_updates("embed").apply(params[-1])
    ids_of_the_batch = np.array(prompts)  # vLLM keeps them so; what is timed is the copy that it makes of them
    begun = time.perf_counter()
    matrix = torch.from_numpy(ids_of_the_batch.copy()) if any(p.requires_token_ids for p in params) else None
    seconds = time.perf_counter() - begun
    lengths = torch.full((requests,), tokens)
    states = [PoolingStates() for _ in range(requests)]
    metadata = PoolingMetadata(lengths, None, matrix, params, states)
    metadata.build_pooling_cursor(np.full(requests, tokens), lengths, torch.device("cpu"))
    return metadata, seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--requests", type=int, default=1000)
    options.add_argument("--tokens", type=int, default=500)
    options.add_argument("--calls", type=int, default=100)
    options.add_argument("--quick", action="store_true", help="a few calls, to see that it runs")
    options.add_argument("--output", type=Path, help="keep the result here, one line of JSON")
    arguments = options.parse_args()
    calls = 3 if arguments.quick else arguments.calls
    import torch

    torch.set_num_threads(1)  # else the softmax of 13,000 rows, which a GPU would do, waits for threads to wake up
    pooler = new_pooler()
    hidden = torch.zeros(arguments.requests * arguments.tokens, len(SCORING))
    table = {}
    for by in ("tags", "positions"):
        metadata, token_ids = new_metadata(pooler, by, arguments.requests, arguments.tokens)
        seconds = []
        for _ in range(calls):
            begun = time.perf_counter()
            outputs = pooler(hidden, metadata)
            seconds.append(time.perf_counter() - begun)
        assert {len(output) for output in outputs} == {STEPS * (1 if by == "tags" else len(SCORING))}
        row = SimpleNamespace(pooler=statistics.median(seconds) * 1e3, least=min(seconds) * 1e3, ids=token_ids * 1e3)
        print(f"by {by:10} {row.pooler:8.1f} ms (least {row.least:.1f}), token ids {row.ids:.1f} ms")
        table[by] = {"pooler_ms": row.pooler, "pooler_least_ms": row.least, "token_ids_ms": row.ids}
    sizes = {"requests": arguments.requests, "tokens": arguments.tokens, "steps": STEPS, "calls": calls}
    keep({"benchmark": "pooler_host", **sizes, "table": table, "machine": machine()}, arguments.output)


if __name__ == "__main__":
    main()
