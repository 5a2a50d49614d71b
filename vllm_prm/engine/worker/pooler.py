"""StepPooler: the hidden states of one scheduled batch -> the step scores of each request that is done.

The scheduler may cut a prompt into chunks anywhere, preempt a request and run it again from the start, or serve its
beginning from the prefix cache. So nothing is appended; every row is written at the place of its position, and
running a position twice writes the same row twice. That place is the score cache, where the engine has one: the
logits of every scheduled token go to its KV slot, and a request that is done reads its steps from there, whoever
computed them. A request with scoring tokens of its own (or an engine without prefix caching) computes its whole
prompt and keeps one row per step between chunks. Hidden states are never kept.

Rows of all such requests that want the same tokens go through the head together: one gather, one small matrix
product and one softmax per group and batch, whatever the number of requests, with no host synchronisation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.model_executor.layers.pooler import Pooler, PoolingParamsUpdate
from vllm.utils.torch_utils import PIN_MEMORY

from vllm_prm.engine.positions import named_positions
from vllm_prm.engine.settings import TASKS, StepSettings
from vllm_prm.engine.worker.head import ScoringHead
from vllm_prm.engine.worker.own_heads import OwnHead, ValueHead
from vllm_prm.engine.worker.read_out import Group, ReadOut, tags_of
from vllm_prm.engine.worker.score_cache import ScoreCache
from vllm_prm.engine.worker.tags import GluedTags, tag_positions

if TYPE_CHECKING:
    from vllm.v1.pool.metadata import PoolingMetadata


# Hidden states per call of the head when every token is scored: bounds the float32 copy that vLLM's head makes of
# them to 1024 * 16,384 * 4 bytes = 64 MiB for the widest model of vLLM 0.32.
_ROWS_AT_ONCE = 1024


class _Chunk(NamedTuple):
    """The part of one request's prompt that this batch computes: positions start to end."""

    request: int
    start: int
    end: int
    first_row: int  # of the batch's hidden states
    is_last: bool


@dataclass
class _Groups:
    """The steps of a batch, by what is read of them.

    from_rows: of requests that are read from this batch's hidden states. from_cache: of finished requests whose logits
    are in the score cache. spans: for each request of from_rows, its steps before this chunk, up to its end, in all.
    """

    from_rows: dict[ReadOut, Group] = field(default_factory=lambda: defaultdict(Group))
    from_cache: dict[ReadOut, Group] = field(default_factory=lambda: defaultdict(Group))
    spans: dict[int, tuple[int, int, int]] = field(default_factory=dict)


@dataclass
class _Partial:
    """Steps of a request that is not done yet. values [all steps of the prompt, ...]; the first `known` are set."""

    values: torch.Tensor
    known: int = 0


class StepPooler(Pooler):
    """vLLM pooler that answers tasks `embed` and `token_classify` with step scores."""

    def __init__(
        self, model: torch.nn.Module, settings: StepSettings, tokenizer: Any, cache: ScoreCache | None = None
    ) -> None:
        super().__init__()
        head = {"lm_head": ScoringHead, "own": OwnHead, "value": ValueHead}[settings.head](model)
        object.__setattr__(self, "head", head)  # not a submodule: the model owns us, not we it
        self.settings = settings
        self.cache = cache
        self._glued_tags = GluedTags(tokenizer)
        # The dtype is part of the key: ids (1, 0) equal weights (1.0, 0.0) in Python, and must not share a tensor.
        self._on_device = lru_cache(maxsize=256)(
            lambda values, dtype, device: torch.tensor(values, dtype=dtype, device=device)
        )

    def get_supported_tasks(self) -> Set[Any]:
        return set(TASKS)

    def get_pooling_updates(self, task: Any) -> PoolingParamsUpdate:
        return PoolingParamsUpdate(requires_token_ids=True)

    def forward(self, hidden_states: torch.Tensor, pooling_metadata: PoolingMetadata) -> list[torch.Tensor | None]:
        """hidden_states [scheduled tokens, hidden] of all requests in order -> per request float32 or None.

        A finished request gives [steps] (embed with a recipe), [steps * tokens] (embed without one, with scoring
        tokens of the request's own, or for raw logits) or [steps, tokens] (token_classify); a prompt without step
        tags gives 0 steps; an unfinished one None.
        """
        self.head.prepare(hidden_states)
        cache_is_ready = self.cache is not None and self.cache.ready
        if cache_is_ready:
            self._write_cache(hidden_states)
        chunks = list(_chunks(pooling_metadata))
        groups = self._groups(chunks, pooling_metadata, cache_is_ready)
        outputs: list[torch.Tensor | None] = [None] * len(chunks)
        for read_out, group in groups.from_cache.items():
            values = self._values(self._read_cache(group, hidden_states.device), read_out)
            for request, rows in group.slices:
                outputs[request] = read_out.shaped(values[rows])
        for read_out, group in groups.from_rows.items():
            values = self._values(self._run_head(group, hidden_states, read_out.scoring_ids), read_out)
            for request, rows in group.slices:
                state, span = pooling_metadata.pooling_states[request], groups.spans[request]
                if (all_steps := _kept_steps(state, values[rows], span, chunks[request].is_last)) is not None:
                    outputs[request] = read_out.shaped(all_steps)
        if self.cache is not None:
            self.cache.slots = None  # of this batch only: a stale slot would put a score in another prompt's place
        return outputs

    def _groups(self, chunks: list[_Chunk], pooling_metadata: PoolingMetadata, cache_is_ready: bool) -> _Groups:
        prompts = pooling_metadata.get_prompt_token_ids_cpu()
        groups = _Groups()
        for chunk in chunks:
            params = pooling_metadata.pooling_params[chunk.request]
            read_out = ReadOut.of(params, self.settings)
            reads_cache = cache_is_ready and self.settings.keep(read_out.scoring_ids)
            if reads_cache and not chunk.is_last:
                continue  # its logits are written; where its steps are matters when it is done
            steps = self._step_positions(params, prompts[chunk.request].numpy(), chunk.is_last)
            if reads_cache:
                groups.from_cache[read_out].add(chunk.request, steps)
            else:
                first, last = np.searchsorted(steps, (chunk.start, chunk.end)).tolist()
                groups.from_rows[read_out].add(chunk.request, steps[first:last] + (chunk.first_row - chunk.start))
                groups.spans[chunk.request] = (first, last, len(steps))
        return groups

    def _step_positions(self, params: Any, prompt: np.ndarray, is_last_chunk: bool) -> np.ndarray:
        """[steps] positions in the prompt: those the request names, or its step tags."""
        steps = named_positions(params.extra_kwargs)
        if steps is None:
            tags, offset = tags_of(params, self.settings)
            if is_last_chunk and get_tensor_model_parallel_rank() == 0:
                self._glued_tags.look(tags, prompt)
            return tag_positions(prompt, tags, offset)
        if len(steps) and steps[-1] >= len(prompt):  # only here is the prompt's length known
            return steps[:0]
        return steps

    def _write_cache(self, hidden_states: torch.Tensor) -> None:
        """The engine's scoring logits of every scheduled token, to the token's own slot."""
        assert self.cache is not None
        ids = self._on_device(self.settings.scoring_ids, torch.int64, hidden_states.device)
        logits = [self.head(rows, ids) for rows in hidden_states.split(_ROWS_AT_ONCE)]
        self.cache.write(torch.cat(logits))

    def _read_cache(self, group: Group, device: torch.device) -> torch.Tensor:
        """[group size, tokens] logits of a group's steps."""
        assert self.cache is not None
        num_steps = [rows.stop - rows.start for _, rows in group.slices]
        requests = np.repeat([request for request, _ in group.slices], num_steps)
        return self.cache.read(_moved(requests, device), _moved(np.concatenate(group.rows), device))

    def _run_head(self, group: Group, hidden_states: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
        """[group size, tokens] logits of a group's rows of this batch."""
        device = hidden_states.device
        if not group.size:
            return torch.empty((0, len(ids)), device=device)
        hidden = hidden_states.index_select(0, _moved(np.concatenate(group.rows), device))
        return self.head(hidden, self._on_device(ids, torch.int64, device))

    def _values(self, logits: torch.Tensor, read_out: ReadOut) -> torch.Tensor:
        """[N, tokens] logits -> [N] step scores with weights, else [N, tokens] probabilities or logits; float32."""
        values = read_out.activated(logits)
        if read_out.weights is None:
            return values
        return values @ self._on_device(read_out.weights, torch.float32, values.device)


def _chunks(pooling_metadata: PoolingMetadata) -> Iterator[_Chunk]:
    cursor = pooling_metadata.get_pooling_cursor()
    scheduled = cursor.num_scheduled_tokens_cpu.tolist()
    ends = cursor.seq_lens_cpu.tolist()
    row = 0
    for request, is_last in enumerate(cursor.is_finished().tolist()):
        yield _Chunk(request, ends[request] - scheduled[request], ends[request], row, is_last)
        row += scheduled[request]


def _moved(index: np.ndarray, device: torch.device) -> torch.Tensor:
    """To the device without waiting for it."""
    tensor = torch.from_numpy(index)
    return (tensor.pin_memory() if PIN_MEMORY else tensor).to(device, non_blocking=True)


def _kept_steps(
    state: Any, chunk_steps: torch.Tensor, span: tuple[int, int, int], is_last_chunk: bool
) -> torch.Tensor | None:
    """Put this chunk's steps to those of the request's earlier chunks; all of them, [steps, ...], after the last one.

    state: vLLM's of the request. span: the request's steps before this chunk, up to its end, in all.
    """
    first, last, total = span
    if is_last_chunk and len(chunk_steps) == total:  # the usual case: nothing was kept, nothing needs to be
        return chunk_steps
    partial = getattr(state, "prm", None)
    if partial is None or first == 0:
        partial = state.prm = _Partial(chunk_steps.new_empty((total, *chunk_steps.shape[1:])))
    if first > partial.known:
        raise RuntimeError(  # stops the engine: better than a score that belongs to another step
            f"steps {partial.known} to {first - 1} of a prompt were never computed: vLLM skipped their positions "
            "although this request does not read the prefix cache. Please report this with your engine flags."
        )
    partial.values[first:last] = chunk_steps
    partial.known = last
    return partial.values if is_last_chunk else None
