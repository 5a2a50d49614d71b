"""The step tags among a prompt's token ids."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from vllm.logger import init_logger

from vllm_prm.recipes.binding import glued_tag_id

logger = init_logger(f"vllm.{__name__}")

Tags = tuple[tuple[int, ...], ...]  # token sequences; any of them ends a step


def tag_positions(prompt: np.ndarray, tags: Tags, offset: int = 0) -> np.ndarray:
    """prompt [tokens] ids -> [steps] int64, ascending: of each tag, the last token's position plus `offset`.

    A position before the prompt (a tag that is its first token, read before it) is left out.
    """
    singles = [tag[0] for tag in tags if len(tag) == 1]
    ends = [np.flatnonzero(np.isin(prompt, singles) if len(singles) > 1 else prompt == singles[0])] if singles else []
    ends += [_sequence_ends(prompt, tag) for tag in tags if len(tag) > 1]
    positions = (ends[0] if len(ends) == 1 else np.unique(np.concatenate(ends))) + offset
    return positions[positions >= 0]


def _sequence_ends(prompt: np.ndarray, tag: tuple[int, ...]) -> np.ndarray:
    length = len(tag)
    if len(prompt) < length:
        return np.empty(0, dtype=np.int64)
    ends = np.flatnonzero(prompt[length - 1 :] == tag[-1]) + length - 1
    for back, token_id in enumerate(reversed(tag[:-1]), start=1):
        ends = ends[prompt[ends - back] == token_id]
    return ends


class GluedTags:
    """Tells of prompts in which a step tag is glued to the word before it, and so is another token without a score."""

    def __init__(self, tokenizer: Any) -> None:
        self._glued_id = lru_cache(maxsize=64)(
            lambda tag_id: None if tokenizer is None else glued_tag_id(tag_id, tokenizer)
        )
        self._num_prompts = 0

    def look(self, tags: Tags, prompt: np.ndarray) -> None:
        """Counted, and logged at 1, 10, 100, ... prompts: a dataset with this fault must not fill the log."""
        tag_ids = [tag[0] for tag in tags if len(tag) == 1]
        glued_ids = [glued for tag_id in tag_ids if (glued := self._glued_id(tag_id)) is not None]
        if not glued_ids or not np.isin(prompt, glued_ids).any():
            return
        self._num_prompts += 1
        if str(self._num_prompts).strip("0") == "1":
            logger.warning(
                "A prompt contains token %s, which reads like the step tag (token %s) but is another token: the tag "
                "is glued to the word before it, as in 'day.ки' for 'day. ки'. That step gets no score. Put a space "
                "before the tag, or send token ids. (%d such prompts so far.)",
                ", ".join(map(str, glued_ids)),
                ", ".join(map(str, tag_ids)),
                self._num_prompts,
            )
