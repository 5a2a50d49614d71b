"""The `vllm.general_plugins` entry point.

vLLM calls `register` in every process it starts, for every model, before it builds a parser or a model, and
does not catch what it raises. So it only wraps four functions, costs milliseconds, and reports instead of
raising: a vLLM that does not serve a PRM must not notice it. Nor must one that it was not tested with
(`engine/compat.py`): nothing is wrapped there.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

from vllm_prm.engine.compat import untested

logger = logging.getLogger("vllm.vllm_prm")  # vLLM's handler prints it, and vLLM itself is not imported here

WRAPPED = "_vllm_prm_wraps"  # marks a wrapped function, so that registering twice wraps once


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace `owner.name` by a function that calls `around(original, *args, **kwargs)`, once."""
    original = getattr(owner, name)
    if hasattr(original, WRAPPED):
        return

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(wrapper, WRAPPED, original)
    static = isinstance(owner, type) and isinstance(vars(owner).get(name), staticmethod)
    setattr(owner, name, staticmethod(wrapper) if static else wrapper)


def register() -> None:
    """Put the seams in place, if this vLLM is one that we know. Idempotent; never raises."""
    try:
        if (sentence := untested()) is None:
            _register()
        elif multiprocessing.parent_process() is None:  # once, not in every process that vLLM starts
            logger.warning(sentence)
    except Exception as error:  # noqa: BLE001 - see the module docstring: raising here stops every vLLM start
        logger.warning(
            "vllm-prm is installed but could not hook into this vLLM, so process reward models are not "
            "available; everything else works as without it. Cause: %s: %s",
            type(error).__name__,
            error,
        )


def _register() -> None:
    from vllm.model_executor.models import adapters
    from vllm.pooling_params import PoolingParams

    from vllm_prm.engine.start.requests import verify
    from vllm_prm.engine.worker.model import as_process_reward_model

    wrap(adapters, "as_embedding_model", as_process_reward_model)
    wrap(PoolingParams, "verify", verify)
    # Only a process that configures an engine has loaded this module; a worker need not pay for it.
    if arguments := sys.modules.get("vllm.engine.arg_utils"):
        from vllm_prm.engine.start.configuration import create_engine_config
        from vllm_prm.engine.start.flags import add_cli_args

        wrap(arguments.EngineArgs, "add_cli_args", add_cli_args)
        wrap(arguments.EngineArgs, "create_engine_config", create_engine_config)
