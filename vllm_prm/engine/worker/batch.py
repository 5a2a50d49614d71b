"""Batch: what vLLM says of a scheduled batch, as plain lists and arrays of the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vllm.pooling_params import PoolingParams
    from vllm.v1.pool.metadata import PoolingMetadata


@dataclass(frozen=True)
class Batch:
    """Per request of the batch, in its order.

    chunks: the part of the prompt that this batch computes: positions start to end, and the row of the batch's hidden
        states where it begins. is_last: whether the prompt ends with it. lengths: of prompts, in tokens.
    token_ids: [requests, longest] of those requests that asked for theirs, other rows hold anything; None if none did.
    states: vLLM's of the requests, kept from chunk to chunk.
    """

    params: list[PoolingParams]
    chunks: list[tuple[int, int, int]]
    is_last: list[bool]
    lengths: list[int]
    token_ids: np.ndarray | None
    states: list[Any]

    @classmethod
    def of(cls, pooling_metadata: PoolingMetadata) -> Batch:
        cursor = pooling_metadata.get_pooling_cursor()
        chunks, row = [], 0
        ends = cursor.seq_lens_cpu.tolist()
        for end, scheduled in zip(ends, cursor.num_scheduled_tokens_cpu.tolist(), strict=True):
            chunks.append((end - scheduled, end, row))
            row += scheduled
        token_ids = pooling_metadata.prompt_token_ids_cpu
        return cls(
            params=pooling_metadata.pooling_params,
            chunks=chunks,
            is_last=cursor.is_finished().tolist(),
            lengths=pooling_metadata.prompt_lens.tolist(),
            token_ids=None if token_ids is None else token_ids.numpy(),
            states=pooling_metadata.pooling_states,
        )

    def prompts(self, requests: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Token ids [len(requests), longest], padded with anything, and lengths [len(requests)] of prompts."""
        assert self.token_ids is not None  # the pooler asks vLLM for them
        every = len(requests) == len(self.params)
        return self.token_ids if every else self.token_ids[requests], np.array(self.lengths)[requests]
