"""Whether the columns of a model's head may stand for the whole of it, found out on random hidden states."""

from __future__ import annotations

from typing import NamedTuple

import torch
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from vllm_prm.engine.worker.head_columns import HeadColumns

# Few rows, because each costs the logits of the whole vocabulary; few columns, but from end to end of the vocabulary,
# so that every tensor-parallel rank owns some.
_ROWS, _COLUMNS = 2, 64
# A head that ModelOpt, AutoRound or Quark leave out of their quantisation comes with a linear layer's method.
_PLAIN = (UnquantizedEmbeddingMethod, UnquantizedLinearMethod)


class Verdict(NamedTuple):
    """whole_because: why the whole head must run, as a clause; None if its columns do. quantised: the head is.

    vocabulary: columns of the whole head.
    """

    whole_because: str | None
    vocabulary: int
    quantised: bool = False


def check_head(columns: HeadColumns, hidden: torch.Tensor) -> Verdict:
    """Compare columns with the whole head. hidden [any, hidden]: only its width, dtype and device matter.

    The same on every tensor-parallel rank: they see the same hidden states and the same gathered logits.
    """
    noise = torch.Generator().manual_seed(0)
    rows = torch.randn(_ROWS, hidden.shape[-1], generator=noise, dtype=torch.float32).to(hidden)
    with columns.in_the_models_dtype():
        heads, whole = columns.heads(rows)
    vocabulary = whole.shape[-1]
    if len(heads) != 1:
        return Verdict(f"compute_logits calls vLLM's LogitsProcessor {len(heads)} times, expected once", vocabulary)
    method = heads[0].quant_method
    if not isinstance(method, _PLAIN):
        return Verdict(f"its output head is not a plain matrix but {type(method).__name__}", vocabulary, quantised=True)
    return Verdict(_difference(columns, rows, whole), vocabulary)


def _difference(columns: HeadColumns, rows: torch.Tensor, whole: torch.Tensor) -> str | None:
    """What is wrong with the columns, as a clause; None if they are those of the whole head."""
    # In whole numbers: vLLM loads under the model's dtype, and bfloat16 rounds the last of 32,000 ids up to 32,000.
    ids = torch.arange(_COLUMNS, device=rows.device) * (whole.shape[-1] - 1) // (_COLUMNS - 1)
    expected = whole[:, ids].float()
    try:
        with columns.in_the_models_dtype():
            if _tells_tokens_apart(columns, rows, ids, whole.shape[-1]):
                return "it changes the logits of particular tokens after its output head"
            reads = [columns.read(rows, ids).float()]
        reads.append(columns.read(rows, ids).float())  # as they are served: on GPUs a kernel with float32 results
    except Exception as error:  # noqa: BLE001 - whatever a model cannot do with a part of its head, it can with all
        return f"its output head cannot be read in part ({type(error).__name__}: {error})"
    size = expected.abs().max().item()
    limit = max(4 * torch.finfo(rows.dtype).eps, 1e-4) * size  # docs/numerics.md: what rounding alone makes of it
    for read in reads:
        if read.shape != expected.shape:
            return f"{list(expected.shape)} logits of the scoring tokens became {list(read.shape)}"
        difference = (read - expected).abs().max().item()
        if not difference <= limit:  # NaN is no agreement
            return f"the scoring columns differ from its whole head by {difference:.2g}, allowed are {limit:.2g}"
    return None


def _tells_tokens_apart(columns: HeadColumns, rows: torch.Tensor, ids: torch.Tensor, vocabulary: int) -> bool:
    """Whether equal logits come out of the model unequal: it masks tokens, by indices that columns do not have."""

    def level(processor: torch.nn.Module, args: tuple, logits: torch.Tensor) -> torch.Tensor:
        return logits.new_ones(len(logits), vocabulary)

    with columns.at_processors(after=level):
        logits = columns.read(rows, ids)
    return not torch.equal(logits, logits[:, :1].expand_as(logits))
