"""ScoringHead: logits of the scoring tokens, by the columns of the model's output head or by the whole of it.

Columns are the rule (head_columns.py). That they hold for the model at hand is checked once its weights are loaded
(head_check.py). Where they do not (a quantised head, a model that masks tokens, a processor with a kernel of its own),
the whole head runs and columns are picked from it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from vllm.logger import init_logger

from vllm_prm.engine.worker.head_check import check_head
from vllm_prm.engine.worker.head_columns import HeadColumns

logger = init_logger(f"vllm.{__name__}")

# Logits per call of the whole head, when that must run: 2**26 of 4 bytes are 256 MiB. With the score cache every token
# goes through it, and 16,384 tokens of Llama 3 (128,256 words) then take 32 products, each large enough for a GPU.
_LOGITS_PER_CALL = 2**26


class ScoringHead:
    """Logits of chosen tokens through `model.compute_logits`.

    for_all: whether it is asked for `log_probabilities`. whole_because: why the whole head runs for a call; None where
    the scoring columns do (or before `prepare`).
    """

    def __init__(self, model: torch.nn.Module, for_all: bool = False) -> None:
        self._model = model
        self._for_all = for_all
        self._columns: HeadColumns | None = None  # None until `prepare`
        self._rows_per_call = 1
        self.whole_because: str | None = None
        _keep_adapters_off_the_head(model)

    def __call__(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """hidden [N, hidden], ids [K] int64 on the same device -> logits [N, K], in the dtype the head gives."""
        self.prepare(hidden)
        if self._columns is not None and self.whole_because is None:
            return self._columns.read(hidden, ids)
        return torch.cat([self._model.compute_logits(rows)[:, ids] for rows in hidden.split(self._rows_per_call)])

    def log_probabilities(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """As a call, but the logarithm of the softmax over the whole vocabulary; float32. All columns are computed."""
        self.prepare(hidden)
        assert self._columns is not None
        in_parts = self.whole_because is None
        rows_per_call = max(1, self._rows_per_call // 2)  # logits, and their softmax beside them
        parts = [self._columns.log_probabilities(rows, ids, in_parts) for rows in hidden.split(rows_per_call)]
        return torch.cat(parts)

    @property
    def checked(self) -> bool:
        """Whether it is known how to read the head; before that, `prepare` finds out."""
        return self._columns is not None

    def prepare(self, hidden: torch.Tensor) -> None:
        """Check the columns against the whole head. Once, after loading: that replaces modules."""
        if self.checked:
            return
        columns = HeadColumns(self._model)
        verdict = check_head(columns, hidden)  # what it raises leaves this head unchecked, to be checked again later
        self.whole_because = verdict.whole_because
        self._rows_per_call = max(1, _LOGITS_PER_CALL // verdict.vocabulary)
        if verdict.quantised:  # such a head computes in no other dtype: vLLM raises
            for processor in columns.processors:
                processor.head_dtype = None
        self._columns = columns
        if self.whole_because is not None:
            logger.warning(
                "%s: %s. Scoring runs the whole head at the step tags and keeps the scoring columns: scores are "
                "right, only slower.",
                type(self._model).__name__,
                self.whole_because,
            )

    def prepare_loaded(self, hidden_size: int, dtype: torch.dtype) -> None:
        """`prepare`, for the hidden states that the model will give: on every rank, when its weights are loaded.

        A model whose head cannot run yet is left to the first batch, which is vLLM's warm-up if it makes one.
        """
        parameter = next(self._model.parameters())
        try:
            with torch.inference_mode():
                head = HeadColumns(self._model).first_head(parameter.new_zeros((1, hidden_size), dtype=dtype))
                # OPT projects what its last layer gives to the width of its head, which need not be hidden_size.
                self.prepare(parameter.new_zeros((1, head.embedding_dim), dtype=dtype))
            if self.whole_because is None and not self._for_all:
                _free_prepared_copy(head)
        except Exception as error:  # noqa: BLE001 - to start is worth more than to check early
            logger.info("The output head is checked with the first batch: %s: %s", type(error).__name__, error)


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
