"""The positions that a request names, in place of step tags: written by whoever asks, checked at the front, read by
the worker.

Their place is vLLM's `PoolingParams.extra_kwargs`, as {"prm": {"positions": [ascending indices into the prompt]}}. Our
own requests hold them packed, as bytes: vLLM deep-copies the parameters of every request, and a copy of a list is made
number by number, that of bytes not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import lt
from typing import Any

import numpy as np

from vllm_prm.errors import RequestError

KEY = "prm"  # in PoolingParams.extra_kwargs
_PACKED = np.dtype("<i4")  # of packed positions: no prompt has 2^31 tokens


def positions_request(positions: Sequence[int]) -> dict[str, Any]:
    """The `extra_kwargs` of a request that is read at these positions of its prompt, ascending."""
    return {KEY: {"positions": np.asarray(positions, dtype=_PACKED).tobytes()}}


def check_positions(extra_kwargs: dict[str, Any] | None, longest: int) -> bool:
    """Whether a request names positions. longest: tokens of the longest prompt that the model takes.

    Raises RequestError unless they are ascending positions in such a prompt.
    """
    request = (extra_kwargs or {}).get(KEY)
    if request is None:
        return False
    positions = _unpacked(request)
    if not set(map(type, positions)) <= {int} or not _ascending(positions, longest):
        _refuse(positions, longest)
    return True


def names_positions(extra_kwargs: dict[str, Any] | None) -> bool:
    """Whether a request that was checked names positions."""
    return extra_kwargs is not None and KEY in extra_kwargs


def named_positions(extra_kwargs: dict[str, Any] | None) -> np.ndarray | None:
    """[steps] int64 of a request that was checked; None if it leaves them to the step tags."""
    if not extra_kwargs or KEY not in extra_kwargs:
        return None
    positions = extra_kwargs[KEY]["positions"]
    if isinstance(positions, bytes):
        return np.frombuffer(positions, dtype=_PACKED).astype(np.int64)
    return np.array(positions, dtype=np.int64)


def _unpacked(request: Any) -> list[Any]:
    if isinstance(request, dict) and set(request) == {"positions"}:
        positions = request["positions"]
        if isinstance(positions, list):
            return positions
        if isinstance(positions, bytes) and len(positions) % _PACKED.itemsize == 0:
            return np.frombuffer(positions, dtype=_PACKED).tolist()
    raise RequestError(f'extra_kwargs["{KEY}"] is {request!r}; expected {{"positions": [ascending token positions]}}')


def _ascending(positions: list[int], longest: int) -> bool:
    """Without a line of Python for each of them."""
    if not positions:
        return True
    return positions[0] >= 0 and positions[-1] < longest and all(map(lt, positions, islice(positions, 1, None)))


def _refuse(positions: list[Any], longest: int) -> None:
    """Raise RequestError for the first one at fault."""
    last = -1
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int) or not last < position < longest:
            raise RequestError(
                f"positions contains {position!r} after {last}; expected integers in ascending order, from 0 to "
                f"{longest - 1}"
            )
        last = position
