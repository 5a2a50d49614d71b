"""Caller: what all prompts of one HTTP request share; and how several of them are under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

    from vllm_prm.prompts import SeenQuestion

_T = TypeVar("_T")


@dataclass(frozen=True)
class Caller:
    """What all prompts of one HTTP request share.

    model: as the server names it, or the adapter. looks: at the questions with images, each fetched once per request.
    """

    request_id: str
    model: str
    lora: LoRARequest | None
    priority: int
    trace_headers: Mapping[str, str] | None
    looks: dict[Hashable, asyncio.Task[SeenQuestion]] = field(default_factory=dict)


async def concurrently(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Results of coroutines run at once, in order. The first to raise cancels the others, and so their requests."""
    listed = list(coroutines)
    if len(listed) == 1:
        return [await listed[0]]  # the only one needs no task of its own
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(coroutine) for coroutine in listed]
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return [task.result() for task in running]
