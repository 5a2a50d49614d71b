"""The step tags among a prompt's token ids."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from vllm.logger import init_logger

from vllm_prm.recipes.binding import glued_tag_id

logger = init_logger(f"vllm.{__name__}")

Tags = tuple[tuple[int, ...], ...]  # token sequences; any of them ends a step


def tag_positions(prompts: np.ndarray, lengths: np.ndarray, tags: Tags, offset: int = 0) -> list[np.ndarray]:
    """prompts [N, longest] token ids, each of its length [N] and padded with anything -> N times [steps] int64.

    Ascending: of each tag, the last token's position plus `offset`. A position before the prompt (a tag that is its
    first token, read before it) is left out.
    """
    is_end = np.zeros(prompts.shape, dtype=bool)
    for tag in tags:
        is_end |= _ends_of(prompts, tag)
    prompt_indices, ends = np.nonzero(is_end)
    positions = ends + offset
    is_inside = (ends < lengths[prompt_indices]) & (positions >= 0)
    prompt_indices, positions = prompt_indices[is_inside], positions[is_inside]
    bounds = np.searchsorted(prompt_indices, np.arange(len(prompts) + 1)).tolist()
    return [positions[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _ends_of(prompts: np.ndarray, tag: tuple[int, ...]) -> np.ndarray:
    """[N, longest], true where the last token of a tag is."""
    is_end = prompts == tag[-1]
    for back, token_id in enumerate(reversed(tag[:-1]), start=1):
        is_end[:, :back] = False
        is_end[:, back:] &= prompts[:, :-back] == token_id
    return is_end


class GluedTags:
    """Tells of prompts in which a step tag is glued to the word before it, and so is another token without a score."""

    def __init__(self, tokenizer: Any) -> None:
        self._glued_id = lru_cache(maxsize=64)(
            lambda tag_id: None if tokenizer is None else glued_tag_id(tag_id, tokenizer)
        )
        self._num_prompts = 0

    def look(self, tags: Tags, prompts: np.ndarray, lengths: np.ndarray) -> None:
        """Look at prompts that are done, as `tag_positions` takes them.

        Counted, and logged at 1, 10, 100, ... prompts: a dataset with this fault must not fill the log.
        """
        tag_ids = [tag[0] for tag in tags if len(tag) == 1]
        glued_ids = [glued for tag_id in tag_ids if (glued := self._glued_id(tag_id)) is not None]
        if not glued_ids:
            return
        glued_tags = tuple((token_id,) for token_id in glued_ids)
        for positions in tag_positions(prompts, lengths, glued_tags):
            if not len(positions):
                continue
            self._num_prompts += 1
            if str(self._num_prompts).strip("0") == "1":
                logger.warning(
                    "A prompt contains token %s, which reads like the step tag (token %s) but is another token: the "
                    "tag is glued to the word before it, as in 'day.ки' for 'day. ки'. That step gets no score. Put a "
                    "space before the tag, or send token ids. (%d such prompts so far.)",
                    ", ".join(map(str, glued_ids)),
                    ", ".join(map(str, tag_ids)),
                    self._num_prompts,
                )
