"""ScoringHead: a few columns of the model's own logits.

Models differ in what they do around their output head: a norm before it, a bias, a scale, a soft cap, another
module's weight. None of that is repeated here. The model's own `compute_logits` runs, and on its way into vLLM's
LogitsProcessor (which every architecture calls exactly once, on one head) the head is swapped for a stand-in that
holds only the rows of the scoring tokens. What comes out is `compute_logits(h)[:, ids]` without the other columns.

That this holds for the model at hand is checked once its weights are loaded, against its whole head. Where it does
not (a quantised head, a model that masks tokens, a processor with a kernel of its own), the whole head runs and
columns are picked from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

# Rows of hidden states per call of the whole head, when that must run: bounds its [rows, vocabulary] logits
# to 64 * 262,144 floats = 64 MiB for the largest vocabulary of vLLM 0.32 (Gemma).
_ROWS_PER_CALL = 64
# The check: few rows, because each costs the logits of the whole vocabulary; few columns, but from end to end of
# the vocabulary, so that every tensor-parallel rank owns some.
_CHECK_ROWS, _CHECK_COLUMNS = 2, 64
_CALL = inspect.signature(LogitsProcessor.forward)


class _RowsMethod(UnquantizedEmbeddingMethod):
    """vLLM dispatches on the quant method's type; this one multiplies without a prepared kernel."""

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return F.linear(x, layer.weight, bias)


class _HeadFound(Exception):
    """Carries the head out of a `compute_logits` that need not go on."""

    def __init__(self, head: Any) -> None:
        self.head = head


class _StandIn:
    """What LogitsProcessor needs of a head, for K rows: weight [K, hidden]."""

    tp_size = 1  # the rows are whole on every rank: nothing to gather
    quant_method = _RowsMethod()

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight


class ScoringHead:
    """Logits of chosen tokens through `model.compute_logits`.

    Rows are read from the live parameter on each call, so reloaded or re-tied weights are followed.
    whole_because: why the whole head runs; None where the scoring columns do (or before `prepare`).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._processors: list[LogitsProcessor] | None = None  # None until `prepare`
        self.whole_because: str | None = None
        _keep_adapters_off_the_head(model)

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """hidden [N, hidden], ids [K] int64 on the same device -> logits [N, K], in the dtype the head gives."""
        self.prepare(hidden)
        if self.whole_because is None:
            return self._columns(hidden, ids)
        return torch.cat([self._model.compute_logits(rows)[:, ids] for rows in hidden.split(_ROWS_PER_CALL)])

    @property
    def checked(self) -> bool:
        """Whether it is known how to read the head; before that, `prepare` finds out."""
        return self._processors is not None

    def prepare_loaded(self, hidden_size: int, dtype: torch.dtype) -> None:
        """`prepare`, for the hidden states that the model will give: on every rank, when its weights are loaded.

        A model whose head cannot run yet is left to the first batch, which is vLLM's warm-up if it makes one.
        """
        parameter = next(self._model.parameters())
        try:
            with torch.inference_mode():
                head = self._find_head(parameter.new_zeros((1, hidden_size), dtype=dtype))
                # OPT projects what its last layer gives to the width of its head, which need not be hidden_size.
                self.prepare(parameter.new_zeros((1, head.embedding_dim), dtype=dtype))
            if self.whole_because is None:
                _free_prepared_copy(head)
        except Exception as error:  # noqa: BLE001 - to start is worth more than to check early
            logger.info("The output head is checked with the first batch: %s: %s", type(error).__name__, error)

    def _find_head(self, hidden: torch.Tensor) -> Any:
        """The module that `compute_logits` hands to vLLM's LogitsProcessor."""

        def stop(processor: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            raise _HeadFound(_CALL.bind(processor, *args, **kwargs).arguments["lm_head"])

        self._processors = self._find_processors()
        try:
            with self._at_processor(before=stop):
                self._model.compute_logits(hidden)
        except _HeadFound as found:
            return found.head
        finally:
            self._processors = None
        raise LookupError("compute_logits does not call vLLM's LogitsProcessor")

    def _find_processors(self) -> list[LogitsProcessor]:
        return [module for module in self._model.modules() if isinstance(module, LogitsProcessor)]

    def prepare(self, hidden: torch.Tensor) -> None:
        """Check the columns against the whole head. Once, after loading: that replaces modules."""
        if self.checked:
            return
        self._processors = self._find_processors()
        # In the model's dtype: vLLM gives pooling models a float32 head, and off CUDA casts the whole weight for it.
        wanted = [processor.head_dtype for processor in self._processors]
        self._set_head_dtypes([None] * len(wanted))
        try:
            self.whole_because, quantised = self._why_whole(hidden)
        except BaseException:  # a head that cannot run yet is checked again later, and must then be as it was
            self._set_head_dtypes(wanted)
            self._processors = None
            raise
        if not quantised:  # a quantised head computes in no other dtype: vLLM raises
            self._set_head_dtypes(wanted)
        if self.whole_because is not None:
            logger.warning(
                "%s: %s. Scoring runs the whole head at the step tags and keeps the scoring columns: scores are "
                "right, only slower.",
                type(self._model).__name__,
                self.whole_because,
            )

    def _set_head_dtypes(self, dtypes: list[torch.dtype | None]) -> None:
        for processor, dtype in zip(self._processors or (), dtypes, strict=True):
            processor.head_dtype = dtype

    def _columns(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        def swap(processor: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            call = _CALL.bind(processor, *args, **kwargs).arguments
            head, bias = call["lm_head"], call.get("embedding_bias")
            call["lm_head"] = _StandIn(VocabParallelEmbedding.forward(head, ids))
            call["embedding_bias"] = None if bias is None else _bias_rows(head, bias, ids)
            del call["self"]
            return (), call

        with self._at_processor(before=swap):
            return self._model.compute_logits(hidden)

    def _why_whole(self, hidden: torch.Tensor) -> tuple[str | None, bool]:
        """Why the whole head must run, as a clause, or None if its columns do; and whether it is quantised.

        The same on every tensor-parallel rank: they see the same hidden states and the same gathered logits.
        """
        noise = torch.Generator().manual_seed(0)
        rows = torch.randn(_CHECK_ROWS, hidden.shape[-1], generator=noise, dtype=torch.float32).to(hidden)
        heads: list[Any] = []

        def watch(processor: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            heads.append(_CALL.bind(processor, *args, **kwargs).arguments["lm_head"])

        with self._at_processor(before=watch):
            whole = self._model.compute_logits(rows)
        if len(heads) != 1:
            return f"compute_logits calls vLLM's LogitsProcessor {len(heads)} times, expected once", False
        method = heads[0].quant_method
        if not isinstance(method, UnquantizedEmbeddingMethod):
            return f"its output head is not a plain matrix but {type(method).__name__}", True

        # In whole numbers: vLLM loads under the model's dtype, and bfloat16 rounds the last of 32,000 ids up to 32,000.
        ids = torch.arange(_CHECK_COLUMNS, device=rows.device) * (whole.shape[-1] - 1) // (_CHECK_COLUMNS - 1)
        expected = whole[:, ids].float()
        try:
            if self._tells_tokens_apart(rows, ids, whole.shape[-1]):
                return "it changes the logits of particular tokens after its output head", False
            found = self._columns(rows, ids).float()
        except Exception as error:  # noqa: BLE001 - whatever a model cannot do with a part of its head, it can with all
            return f"its output head cannot be read in part ({type(error).__name__}: {error})", False
        if found.shape != expected.shape:
            return f"{list(expected.shape)} logits of the scoring tokens became {list(found.shape)}", False
        difference, size = (found - expected).abs().max().item(), expected.abs().max().item()
        limit = max(4 * torch.finfo(hidden.dtype).eps, 1e-4) * size
        if not difference <= limit:  # NaN is no agreement
            return f"the scoring columns differ from its whole head by {difference:.2g}, allowed are {limit:.2g}", False
        return None, False

    def _tells_tokens_apart(self, rows: torch.Tensor, ids: torch.Tensor, vocabulary: int) -> bool:
        """Whether equal logits come out of the model unequal: it masks tokens, by indices that columns do not have."""

        def level(processor: torch.nn.Module, args: tuple, logits: torch.Tensor) -> torch.Tensor:
            return logits.new_ones(len(logits), vocabulary)

        with self._at_processor(after=level):
            logits = self._columns(rows, ids)
        return not torch.equal(logits, logits[:, :1].expand_as(logits))

    @contextmanager
    def _at_processor(self, before: Callable | None = None, after: Callable | None = None) -> Iterator[None]:
        """Hooks around LogitsProcessor(lm_head, hidden_states, embedding_bias)."""
        handles = []
        for processor in self._processors or ():
            if before is not None:
                handles.append(processor.register_forward_pre_hook(before, with_kwargs=True))
            if after is not None:
                handles.append(processor.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _bias_rows(head: Any, bias: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """bias[ids] on every rank, where `bias` is this rank's shard of the vocabulary."""
    if head.tp_size == 1:
        return bias[ids]
    start, end = head.shard_indices.org_vocab_start_index, head.shard_indices.org_vocab_end_index
    mine = (ids >= start) & (ids < end)
    rows = bias[(ids - start).clamp(0, end - start - 1)]
    return tensor_model_parallel_all_reduce(torch.where(mine, rows, torch.zeros_like(rows)))


def _free_prepared_copy(head: torch.nn.Module) -> None:
    """On CPUs vLLM keeps the head's weight a second time, laid out for its kernel, which scoring columns never run."""
    if hasattr(head, "cpu_linear"):
        head.cpu_linear = F.linear


def _keep_adapters_off_the_head(model: torch.nn.Module) -> None:
    """No LoRA on the output head: vLLM applies it per request, to one row each, and we read many rows of one.

    vLLM then refuses an adapter that has weights for the head when it is loaded, naming the module.
    """
    for module in model.modules():
        names = getattr(module, "embedding_modules", None) or {}
        if "output_embeddings" in names.values():
            module.embedding_modules = {name: kind for name, kind in names.items() if kind != "output_embeddings"}
