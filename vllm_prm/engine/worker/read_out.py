"""ReadOut: what a request wants to know of its steps, and logits turned into that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from vllm_prm.engine.settings import StepSettings
from vllm_prm.engine.worker.tags import Tags

if TYPE_CHECKING:
    from vllm.pooling_params import PoolingParams


class ReadOut(NamedTuple):
    """Requests with an equal ReadOut share one pass through the head."""

    scoring_ids: tuple[int, ...]
    weights: tuple[float, ...] | None  # None: every probability is returned, not their weighted sum
    activation: str | None  # "softmax" or "sigmoid"; None: raw logits
    flat: bool  # one row-major vector (task embed), or a matrix [steps, scoring tokens]

    @classmethod
    def of(cls, params: PoolingParams, settings: StepSettings) -> ReadOut:
        """A request's own scoring tokens and activation where it names them, else the engine's."""
        scoring_ids = settings.scoring_ids
        if params.returned_token_ids is not None:
            scoring_ids = tuple(params.returned_token_ids)
        activation = None if params.use_activation is False else settings.activation
        flat = params.task == "embed"
        weighted = flat and activation is not None and settings.keep(scoring_ids)
        return cls(scoring_ids, settings.weights if weighted else None, activation, flat)

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """[N, scoring tokens] logits -> the same shape, float32: probabilities, or the logits themselves."""
        values = logits.float()
        if self.activation is None:
            return values
        return values.softmax(dim=-1) if self.activation == "softmax" else values.sigmoid()

    def shaped(self, values: torch.Tensor) -> torch.Tensor:
        """What a request gets of its steps' values."""
        return values.flatten() if self.flat else values


def tags_of(params: PoolingParams, settings: StepSettings) -> tuple[Tags, int]:
    """The step tags and the offset of a request: its own where it names a tag, else the engine's."""
    if params.step_tag_id is not None:
        return ((params.step_tag_id,),), 0
    return settings.step_tags, settings.offset


@dataclass
class Group:
    """Steps of a batch's requests that share a ReadOut.

    rows: per request, where its steps are read: indices into this batch's hidden states, or, of a request that reads
        the score cache, positions in its prompt.
    slices: (request, its rows of the group's values).
    """

    rows: list[np.ndarray] = field(default_factory=list)
    slices: list[tuple[int, slice]] = field(default_factory=list)
    size: int = 0

    def add(self, request: int, rows: np.ndarray) -> None:
        self.slices.append((request, slice(self.size, self.size + len(rows))))
        self.rows.append(rows)
        self.size += len(rows)
