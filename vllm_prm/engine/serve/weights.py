"""When an engine's weights may have changed: then what was read of the model holds no longer.

The engine's own prefix cache has the same need, and vLLM's users reset it after a change. So whatever resets it, loads
weights or adapters, or runs code in the workers, empties the memory of reads as well. Weights that are changed behind
vLLM's back are noticed here no more than by the prefix cache: reset that, as vLLM wants it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from vllm_prm.prompts.reads import ReadMemory

# Methods of vLLM's engines, those that they have: AsyncLLM's for a server, LLMEngine's offline.
CHANGES = (
    "reset_prefix_cache",
    "sleep",
    "wake_up",
    "collective_rpc",
    "add_lora",
    "remove_lora",
    "update_weights",
    "finish_weight_update",
    "update_weight_version",
)


def forget_on_changes(engine: Any, memory: ReadMemory) -> None:
    """Empty the memory whenever one of CHANGES has run on this engine; other engines stay as they are."""
    for name in CHANGES:
        if (method := getattr(engine, name, None)) is not None:
            setattr(engine, name, _forgetting(method, memory))


def _forgetting(method: Callable[..., Any], memory: ReadMemory) -> Callable[..., Any]:
    """The method, and the memory emptied after it: until then the old weights answer."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        finally:
            memory.forget()

    @functools.wraps(method)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        finally:
            memory.forget()

    return async_wrapper if inspect.iscoroutinefunction(method) else wrapper
