"""HeadColumns: chosen columns of a model's own logits, without computing the others.

Models differ in what they do around their output head: a norm before it, a bias, a scale, a soft cap, another
module's weight. None of that is repeated here. The model's own `compute_logits` runs, and on its way into vLLM's
LogitsProcessor (which every architecture calls exactly once, on one head) the head is swapped for a stand-in that
holds only the rows of the scoring tokens. What comes out is `compute_logits(h)[:, ids]` without the other columns.

Whether that holds for the model at hand is for head_check.py to find out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from vllm.distributed import tensor_model_parallel_all_gather, tensor_model_parallel_all_reduce
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

_CALL = inspect.signature(LogitsProcessor.forward)


class _RowsMethod(UnquantizedEmbeddingMethod):
    """vLLM dispatches on the quant method's type; this one multiplies without a prepared kernel."""

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return F.linear(x, layer.weight, bias)


class _StandIn:
    """What LogitsProcessor needs of a head, for K rows: weight [K, hidden]."""

    tp_size = 1  # the rows are whole on every rank: nothing to gather
    quant_method = _RowsMethod()

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight


class _OnThisRank:
    """A head that says it is whole, so that LogitsProcessor gathers nothing: its own kernel runs, on its own rows."""

    tp_size = 1

    def __init__(self, head: Any) -> None:
        self._head = head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._head, name)


class HeadColumns:
    """The way to a model's LogitsProcessors, found once its weights are loaded (loading replaces modules).

    Rows of the head are read from the live parameter on each call, so reloaded or re-tied weights are followed.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.processors = [module for module in model.modules() if isinstance(module, LogitsProcessor)]

    def read(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """hidden [N, hidden], ids [K] int64 on the same device -> logits [N, K], in the dtype the head gives."""

        def swap(processor: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            call = _CALL.bind(processor, *args, **kwargs).arguments
            head, bias = call["lm_head"], call.get("embedding_bias")
            call["lm_head"] = _StandIn(_rows(head, head.weight, ids))
            call["embedding_bias"] = None if bias is None else _rows(head, bias, ids)
            del call["self"]
            return (), call

        with self.at_processors(before=swap):
            return self.model.compute_logits(hidden)

    def log_probabilities(self, hidden: torch.Tensor, ids: torch.Tensor, in_parts: bool) -> torch.Tensor:
        """hidden [N, hidden], ids [K] int64 -> log-softmax over the whole vocabulary at these ids, [N, K] float32.

        in_parts: each tensor-parallel rank computes its part of the vocabulary, and ranks exchange 1 + K numbers a row;
        otherwise the logits of the whole vocabulary are gathered on every rank.
        """
        start: int | None = None  # of this rank's part, if it computes one
        size: int | None = None  # of that part; None: all

        def keep_a_part(processor: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
            nonlocal start, size
            call = _CALL.bind(processor, *args, **kwargs).arguments
            head = call["lm_head"]
            if head.tp_size == 1:
                return None
            start = head.shard_indices.org_vocab_start_index
            size = head.shard_indices.org_vocab_end_index - start  # rows behind are padding
            call["lm_head"] = _OnThisRank(head)
            del call["self"]
            return (), call

        with self.at_processors(before=keep_a_part if in_parts else None):
            logits = self.model.compute_logits(hidden).float()[:, :size]
        if start is None:
            return logits.log_softmax(dim=-1)[:, ids]
        is_here = (ids >= start) & (ids < start + logits.shape[-1])
        columns = logits[:, (ids - start).clamp(0, logits.shape[-1] - 1)].where(is_here, logits.new_zeros(()))
        totals = tensor_model_parallel_all_gather(logits.logsumexp(dim=-1, keepdim=True))
        return tensor_model_parallel_all_reduce(columns) - totals.logsumexp(dim=-1, keepdim=True)

    def heads(self, hidden: torch.Tensor) -> tuple[list[Any], torch.Tensor]:
        """What `compute_logits` hands to LogitsProcessors as their head, and the logits [N, vocabulary] it gives."""
        heads: list[Any] = []

        def watch(processor: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            heads.append(_CALL.bind(processor, *args, **kwargs).arguments["lm_head"])

        with self.at_processors(before=watch):
            logits = self.model.compute_logits(hidden)
        return heads, logits

    def first_head(self, hidden: torch.Tensor) -> Any:
        """The first of `heads`, without computing any logits. Raises LookupError if there is none."""

        def stop(processor: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            raise _HeadFound(_CALL.bind(processor, *args, **kwargs).arguments["lm_head"])

        try:
            with self.at_processors(before=stop):
                self.model.compute_logits(hidden)
        except _HeadFound as stopped:
            return stopped.head
        raise LookupError("compute_logits does not call vLLM's LogitsProcessor")

    @contextmanager
    def in_the_models_dtype(self) -> Iterator[None]:
        """Without the float32 head that vLLM gives pooling models, for which it casts the whole weight off CUDA."""
        head_dtypes = [processor.head_dtype for processor in self.processors]
        for processor in self.processors:
            processor.head_dtype = None
        try:
            yield
        finally:
            for processor, head_dtype in zip(self.processors, head_dtypes, strict=True):
                processor.head_dtype = head_dtype

    @contextmanager
    def at_processors(self, before: Callable | None = None, after: Callable | None = None) -> Iterator[None]:
        """Hooks around LogitsProcessor(lm_head, hidden_states, embedding_bias)."""
        handles = []
        for processor in self.processors:
            if before is not None:
                handles.append(processor.register_forward_pre_hook(before, with_kwargs=True))
            if after is not None:
                handles.append(processor.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _HeadFound(Exception):
    """Carries the head out of a `compute_logits` that need not go on."""

    def __init__(self, head: Any) -> None:
        self.head = head


def _rows(head: Any, shard: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Rows `ids` of the head's weight or bias, whole on every rank; `shard` is this rank's part of the vocabulary."""
    if head.tp_size == 1:
        return shard[ids]
    start, end = head.shard_indices.org_vocab_start_index, head.shard_indices.org_vocab_end_index
    is_here = (ids >= start) & (ids < end)
    rows = shard[(ids - start).clamp(0, end - start - 1)]
    is_here = is_here.view(-1, *[1] * (rows.ndim - 1))
    return tensor_model_parallel_all_reduce(torch.where(is_here, rows, torch.zeros_like(rows)))
