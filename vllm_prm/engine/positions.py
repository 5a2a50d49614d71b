"""The positions that a request names, in place of step tags: written by whoever asks, checked at the front, read by
the worker.

Their place is vLLM's `PoolingParams.extra_kwargs`, as {"prm": {"positions": [ascending indices into the prompt]}}.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vllm_prm.errors import RequestError

KEY = "prm"  # in PoolingParams.extra_kwargs


def positions_request(positions: list[int]) -> dict[str, Any]:
    """The `extra_kwargs` of a request that is read at these positions of its prompt, ascending."""
    return {KEY: {"positions": positions}}


def check_positions(extra_kwargs: dict[str, Any] | None, longest: int) -> bool:
    """Whether a request names positions. longest: tokens of the longest prompt that the model takes.

    Raises RequestError unless they are ascending positions in such a prompt.
    """
    request = (extra_kwargs or {}).get(KEY)
    if request is None:
        return False
    if not isinstance(request, dict) or set(request) != {"positions"} or not isinstance(request["positions"], list):
        raise RequestError(
            f'extra_kwargs["{KEY}"] is {request!r}; expected {{"positions": [ascending token positions]}}'
        )
    last = -1
    for position in request["positions"]:
        if isinstance(position, bool) or not isinstance(position, int) or not last < position < longest:
            raise RequestError(
                f"positions contains {position!r} after {last}; expected integers in ascending order, from 0 to "
                f"{longest - 1}"
            )
        last = position
    return True


def names_positions(extra_kwargs: dict[str, Any] | None) -> bool:
    """Whether a request that was checked names positions."""
    return extra_kwargs is not None and KEY in extra_kwargs


def named_positions(extra_kwargs: dict[str, Any] | None) -> np.ndarray | None:
    """[steps] int64 of a request that was checked; None if it leaves them to the step tags."""
    if not extra_kwargs or KEY not in extra_kwargs:
        return None
    return np.array(extra_kwargs[KEY]["positions"], dtype=np.int64)
