"""Where in a prompt the model is read: the step tags of its token ids, or the positions a request names."""

from __future__ import annotations

from typing import Any

import numpy as np

KEY = "prm"  # in PoolingParams.extra_kwargs: {"prm": {"positions": [...]}}

Tags = tuple[tuple[int, ...], ...]  # token sequences; any of them ends a step


def tag_positions(prompt: np.ndarray, tags: Tags, offset: int = 0) -> np.ndarray:
    """prompt [tokens] ids -> [steps] int64, ascending: of each tag, the last token's position plus `offset`.

    A position before the prompt (a tag that is its first token, read before it) is left out.
    """
    singles = [tag[0] for tag in tags if len(tag) == 1]
    found = [np.flatnonzero(np.isin(prompt, singles) if len(singles) > 1 else prompt == singles[0])] if singles else []
    found += [_sequence_ends(prompt, tag) for tag in tags if len(tag) > 1]
    ends = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
    positions = ends + offset
    return positions[positions >= 0]


def _sequence_ends(prompt: np.ndarray, tag: tuple[int, ...]) -> np.ndarray:
    length = len(tag)
    if len(prompt) < length:
        return np.empty(0, dtype=np.int64)
    ends = np.flatnonzero(prompt[length - 1 :] == tag[-1]) + length - 1
    for back, id_ in enumerate(reversed(tag[:-1]), start=1):
        ends = ends[prompt[ends - back] == id_]
    return ends


def asked_positions(extra: dict[str, Any] | None) -> np.ndarray | None:
    """The positions that a (verified) request names; None if it leaves them to the step tags."""
    named = (extra or {}).get(KEY)
    return None if named is None else np.asarray(named["positions"], dtype=np.int64)
