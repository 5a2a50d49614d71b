"""What an engine answers to a fixed series of prompts, and how its scheduler cut them. The same in every process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from conftest import running, step_config
from oracle import tokens

BLOCK = 32  # the smallest that vLLM's CPU attention takes


@dataclass(frozen=True)
class Prompt:
    """Token ids, and what the request's `PoolingParams` say beside them."""

    ids: list[int]
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """batches: prompts that are sent together, one batch after the other. blocks: in the KV cache of the engine.

    slot_shift: a fault, by which every score is written to the slot of another token.
    """

    folder: str
    blocks: int
    batches: list[list[Prompt]]
    caching: bool = True
    slot_shift: int = 0


@dataclass(frozen=True)
class Answers:
    """Requests are numbered in the order in which they were first scheduled.

    scores, cached: per batch and prompt, the step scores and how many tokens came from the prefix cache.
    schedule: per step of the engine, the tokens scheduled of each request. preempted: requests, as often as they were.
    logged: what the score cache said of itself. groups: layers in each KV group.
    """

    runner: str
    scores: list[list[torch.Tensor]]
    cached: list[list[int]]
    schedule: list[dict[int, int]]
    preempted: list[int]
    logged: list[str]
    groups: list[int]


def answers(series: Series) -> Answers:
    from vllm import PoolingParams

    with _fault(series.slot_shift), _logged() as logged, _engine(series) as llm, _scheduled() as steps:
        core = llm.llm_engine.engine_core.engine_core
        outputs = [
            llm.encode(
                [tokens(prompt.ids) for prompt in batch],
                [PoolingParams(**prompt.params) for prompt in batch],
                pooling_task="embed",
                use_tqdm=False,
            )
            for batch in series.batches
        ]
        numbers: dict[str, int] = {}
        return Answers(
            runner=type(core.model_executor.driver_worker.worker.model_runner).__module__,
            scores=[[output.outputs.data.clone() for output in batch] for batch in outputs],
            cached=[[output.num_cached_tokens for output in batch] for batch in outputs],
            schedule=[
                {numbers.setdefault(name, len(numbers)): count for name, count in step.num_scheduled_tokens.items()}
                for step in steps
            ],
            preempted=[numbers[name] for step in steps for name in sorted(step.preempted_req_ids or ())],
            logged=logged,
            groups=[len(group.layer_names) for group in core.scheduler.kv_cache_config.kv_cache_groups],
        )


def _engine(series: Series) -> Any:
    """Four prompts side by side, in chunks that end in the middle of blocks."""
    return running(
        series.folder,
        pooler_config=step_config(),
        enable_prefix_caching=series.caching,
        enable_chunked_prefill=True,
        max_num_batched_tokens=256,
        long_prefill_token_threshold=75,
        max_num_seqs=4,
        max_model_len=448,
        block_size=BLOCK,
        num_gpu_blocks_override=series.blocks,
        scheduler_reserve_full_isl=False,  # start prompts that the pool may have no room for
    )


@contextmanager
def _scheduled() -> Iterator[list[Any]]:
    """The SchedulerOutput of every step."""
    from vllm.v1.core.sched.scheduler import Scheduler

    steps, schedule = [], Scheduler.schedule

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps.append(schedule(self, *args, **kwargs))
        return steps[-1]

    with patch.object(Scheduler, "schedule", recorded):
        yield steps


@contextmanager
def _logged() -> Iterator[list[str]]:
    from vllm_prm.engine.worker import score_cache

    lines: list[str] = []
    with patch.object(score_cache.logger, "info", lambda text, *values: lines.append(text % values)):
        yield lines


@contextmanager
def _fault(slot_shift: int) -> Iterator[None]:
    from vllm_prm.engine.worker.score_cache import _SlotsBuilder

    build = _SlotsBuilder.build

    def shifted(self: Any, *args: Any, **kwargs: Any) -> Any:
        slots = build(self, *args, **kwargs)
        slots.slot_mapping = slots.slot_mapping + slot_shift
        return slots

    with patch.object(_SlotsBuilder, "build", shifted if slot_shift else build):
        yield
