"""ReadOut: what a request wants to know of its steps, and logits turned into that."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
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
    activation: str | None  # as in `recipes.Recipe`; None: raw logits (of a full softmax: log-probabilities)
    flat: bool  # one row-major vector (task embed), or a matrix [steps, scoring tokens]

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """[N, scoring tokens] logits -> the same shape, float32: probabilities, or the logits themselves."""
        values = logits.float()
        if self.activation is None:
            return values
        if self.activation == "full_softmax":  # the head has divided by all of them already
            return values.exp()
        return values.softmax(dim=-1) if self.activation == "softmax" else values.sigmoid()


class ReadOuts:
    """The ReadOut of each request: its own scoring tokens and activation where it names them, else the engine's."""

    def __init__(self, settings: StepSettings) -> None:
        self._settings = settings
        self._known = lru_cache(maxsize=256)(self._new)  # almost all requests of an engine ask for the same

    def of(self, params: PoolingParams) -> tuple[ReadOut, bool]:
        """And whether an engine that keeps scores has what is asked for (see `StepSettings.keep`)."""
        scoring_ids = params.returned_token_ids
        return self._known(
            None if scoring_ids is None else tuple(scoring_ids), params.use_activation is not False, params.task
        )

    def _new(self, scoring_ids: tuple[int, ...] | None, activated: bool, task: str) -> tuple[ReadOut, bool]:
        settings = self._settings
        is_kept = settings.keep(scoring_ids)
        flat = task == "embed"
        read_out = ReadOut(
            settings.scoring_ids if scoring_ids is None else scoring_ids,
            settings.weights if flat and activated and is_kept else None,
            settings.activation if activated else None,
            flat,
        )
        return read_out, is_kept


def tags_of(params: PoolingParams, settings: StepSettings) -> tuple[Tags, int]:
    """The step tags and the offset of a request: its own where it names a tag, else the engine's."""
    if params.step_tag_id is not None:
        return ((params.step_tag_id,),), 0
    return settings.step_tags, settings.offset


@dataclass
class Group:
    """Steps of a batch's requests that share a ReadOut.

    requests: indices into the batch. rows: per request, where its steps are read: indices into this batch's hidden
    states, or, of requests that read the score cache, positions in their prompts.
    """

    requests: list[int] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def add(self, request: int, rows: np.ndarray) -> None:
        self.requests.append(request)
        self.rows.append(rows)

    @property
    def sizes(self) -> list[int]:
        """Steps per request."""
        return list(map(len, self.rows))
