"""ScoringHead: a few columns of the model's own logits.

Models differ in what they do around their output head: a norm before it, a bias, a scale, a soft cap, another
module's weight. None of that is repeated here. The model's own `compute_logits` runs, and on its way into vLLM's
LogitsProcessor (which every architecture calls exactly once, on one head) the head is swapped for a stand-in that
holds only the rows of the scoring tokens. What comes out is `compute_logits(h)[:, ids]` without the other columns.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from vllm.distributed import tensor_model_parallel_all_reduce
from vllm.logger import init_logger
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import (
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

logger = init_logger(f"vllm.{__name__}")

# Rows of hidden states per call of the full head, when that must run: bounds its [rows, vocabulary] logits
# to 64 * 262,144 floats = 64 MiB for the largest vocabulary of vLLM 0.32 (Gemma).
_FULL_HEAD_ROWS = 64
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


class ScoringHead:
    """Logits of chosen tokens through `model.compute_logits`.

    Rows are read from the live parameter on each call, so reloaded or re-tied weights are followed.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._ids: torch.Tensor | None = None  # ids wanted by the call under way; None leaves the head alone
        self._heads_seen: list[Any] | None = None  # a list while `prepare` watches
        self._prepared = False
        self._full = False

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """hidden [N, hidden], ids [K] int64 on the same device -> logits [N, K], in the dtype the head gives."""
        self.prepare(hidden)
        if self._full:
            return torch.cat([self._model.compute_logits(h)[:, ids] for h in hidden.split(_FULL_HEAD_ROWS)])
        self._ids = ids
        try:
            return self._model.compute_logits(hidden)
        finally:
            self._ids = None

    def prepare(self, hidden: torch.Tensor) -> None:
        """Find the head by watching one `compute_logits`. On first use: LoRA and loading replace modules before."""
        if self._prepared:
            return
        self._prepared = True
        for module in self._model.modules():
            if isinstance(module, LogitsProcessor):
                module.register_forward_pre_hook(self._swap_head, with_kwargs=True)
        heads: list[Any] = []
        self._heads_seen = heads
        self._model.compute_logits(hidden[:1])
        self._heads_seen = None
        plain = len(heads) == 1 and isinstance(heads[0].quant_method, UnquantizedEmbeddingMethod)
        if not plain:
            self._full = True
            logger.warning(
                "%s: the output head is %s, not one plain matrix; scoring runs the whole head at the step tags "
                "and keeps the scoring columns. Scores are right, only slower.",
                type(self._model).__name__,
                " + ".join(type(head.quant_method).__name__ for head in heads) or "not called through LogitsProcessor",
            )

    def _swap_head(self, module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Forward pre-hook of LogitsProcessor(lm_head, hidden_states, embedding_bias)."""
        call = _CALL.bind(module, *args, **kwargs).arguments
        head, bias = call["lm_head"], call.get("embedding_bias")
        if self._ids is None:
            if self._heads_seen is not None:
                self._heads_seen.append(head)
            return None
        weight = VocabParallelEmbedding.forward(head, self._ids)
        call.update(
            lm_head=_StandIn(weight), embedding_bias=None if bias is None else _bias_rows(head, bias, self._ids)
        )
        del call["self"]
        return (), call


def _bias_rows(head: Any, bias: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """bias[ids] on every rank, where `bias` is this rank's shard of the vocabulary."""
    if head.tp_size == 1:
        return bias[ids]
    start, end = head.shard_indices.org_vocab_start_index, head.shard_indices.org_vocab_end_index
    mine = (ids >= start) & (ids < end)
    rows = bias[(ids - start).clamp(0, end - start - 1)]
    return tensor_model_parallel_all_reduce(torch.where(mine, rows, torch.zeros_like(rows)))
