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
from collections.abc import Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.model_executor.layers.pooler import Pooler, PoolingParamsUpdate
from vllm.utils.torch_utils import PIN_MEMORY

from vllm_prm.engine.positions import named_positions, names_positions
from vllm_prm.engine.settings import TASKS, StepSettings
from vllm_prm.engine.worker.batch import Batch
from vllm_prm.engine.worker.head import ScoringHead
from vllm_prm.engine.worker.own_heads import LinearHead, OwnHead
from vllm_prm.engine.worker.read_out import Group, ReadOut, ReadOuts, tags_of
from vllm_prm.engine.worker.score_cache import ScoreCache
from vllm_prm.engine.worker.tags import GluedTags, Tags, tag_positions

if TYPE_CHECKING:
    from vllm.pooling_params import PoolingParams
    from vllm.v1.pool.metadata import PoolingMetadata

_NONE = np.empty(0, dtype=np.int64)  # positions of a prompt without steps

# Hidden states per call of the head when every token is scored: bounds the float32 copy that vLLM's head makes of
# them to 1024 * 16,384 * 4 bytes = 64 MiB for the widest model of vLLM 0.32.
_ROWS_AT_ONCE = 1024


class _TokenIdsForTags(PoolingParamsUpdate):
    """Asks vLLM for a request's token ids if its steps are where its tags are; they cost a matrix of whole prompts."""

    def apply(self, params: PoolingParams) -> None:
        params.requires_token_ids = not names_positions(params.extra_kwargs)


@dataclass
class _Groups:
    """The steps of a batch, by what is read of them.

    from_cache: of finished requests whose logits are in the score cache. from_rows: of requests that are read from
    this batch's hidden states. spans: for each of those, its steps before this chunk, up to its end, in all.
    """

    from_cache: dict[ReadOut, Group] = field(default_factory=lambda: defaultdict(Group))
    from_rows: dict[ReadOut, Group] = field(default_factory=lambda: defaultdict(Group))
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
        self._of_all = settings.reads_vocabulary
        head: Any = {
            "lm_head": lambda: ScoringHead(model, self._of_all),
            "own": lambda: OwnHead(model),
            "linear": lambda: LinearHead(model),
        }[settings.head]()
        object.__setattr__(self, "head", head)  # not a submodule: the model owns us, not we it
        self.settings = settings
        self.cache = cache
        self._read_outs = ReadOuts(settings)
        self._glued_tags = GluedTags(tokenizer)
        # The dtype is part of the key: ids (1, 0) equal weights (1.0, 0.0) in Python, and must not share a tensor.
        self._on_device = lru_cache(maxsize=256)(
            lambda values, dtype, device: torch.tensor(values, dtype=dtype, device=device)
        )

    def get_supported_tasks(self) -> Set[Any]:
        return set(TASKS)

    def get_pooling_updates(self, task: Any) -> PoolingParamsUpdate:
        return _TokenIdsForTags()

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
        batch = Batch.of(pooling_metadata)
        groups = self._groups(batch, cache_is_ready)
        outputs: list[torch.Tensor | None] = [None] * len(batch.params)
        for read_out, group in groups.from_cache.items():
            values = self._values(self._read_cache(group, hidden_states.device), read_out)
            self._put(outputs, group.requests, values, group.sizes, read_out)
        for read_out, group in groups.from_rows.items():
            values = self._values(self._run_head(group, hidden_states, read_out.scoring_ids), read_out)
            finished = _whole_steps(batch, group, values, groups.spans)
            if finished:
                steps = torch.cat(list(finished.values()))
                self._put(outputs, list(finished), steps, list(map(len, finished.values())), read_out)
        if self.cache is not None:
            self.cache.slots = None  # of this batch only: a stale slot would put a score in another prompt's place
        return outputs

    def _groups(self, batch: Batch, cache_is_ready: bool) -> _Groups:
        read_outs, in_cache, reading = [], [], []
        for request, params in enumerate(batch.params):
            read_out, is_kept = self._read_outs.of(params)
            read_outs.append(read_out)
            in_cache.append(cache_is_ready and is_kept)
            # Logits in the cache are written already; where their steps are matters when the request is done.
            if batch.is_last[request] or not in_cache[request]:
                reading.append(request)
        groups = _Groups()
        for request, steps in self._step_positions(batch, reading).items():
            if in_cache[request]:
                groups.from_cache[read_outs[request]].add(request, steps)
            else:
                start, end, row = batch.chunks[request]
                first, last = np.searchsorted(steps, (start, end)).tolist()
                groups.from_rows[read_outs[request]].add(request, steps[first:last] + (row - start))
                groups.spans[request] = (first, last, len(steps))
        return groups

    def _step_positions(self, batch: Batch, requests: list[int]) -> dict[int, np.ndarray]:
        """By request, in order: [steps] positions in its prompt, those that it names, or its step tags."""
        positions: dict[int, np.ndarray] = {}
        by_tags: dict[tuple[Tags, int], list[int]] = defaultdict(list)
        for request in requests:
            steps = named_positions(batch.params[request].extra_kwargs)
            if steps is None:
                by_tags[tags_of(batch.params[request], self.settings)].append(request)
                steps = _NONE
            elif len(steps) and steps[-1] >= batch.lengths[request]:  # only here is the prompt's length known
                steps = _NONE
            positions[request] = steps
        for (tags, offset), with_tags in by_tags.items():
            prompts, lengths = batch.prompts(with_tags)
            positions.update(zip(with_tags, tag_positions(prompts, lengths, tags, offset), strict=True))
            done = [i for i, request in enumerate(with_tags) if batch.is_last[request]]
            self._glued_tags.look(tags, prompts[done], lengths[done])
        return positions

    @staticmethod
    def _put(
        outputs: list[torch.Tensor | None],
        requests: list[int],
        values: torch.Tensor,
        sizes: list[int],
        read_out: ReadOut,
    ) -> None:
        """Values of requests, one after the other, to their places; in one copy to the host, where vLLM wants them."""
        on_host = values.to("cpu", non_blocking=True)  # vLLM waits for the stream before it looks at outputs
        if read_out.flat and on_host.ndim > 1:
            width = on_host.shape[1]
            on_host, sizes = on_host.flatten(), [size * width for size in sizes]
        for request, output in zip(requests, on_host.split(sizes), strict=True):
            outputs[request] = output

    def _write_cache(self, hidden_states: torch.Tensor) -> None:
        """The engine's scoring logits of every scheduled token, to the token's own slot."""
        assert self.cache is not None
        ids = self._on_device(self.settings.scoring_ids, torch.int64, hidden_states.device)
        logits = [self._logits(rows, ids) for rows in hidden_states.split(_ROWS_AT_ONCE)]
        self.cache.write(torch.cat(logits))

    def _read_cache(self, group: Group, device: torch.device) -> torch.Tensor:
        """[group size, tokens] logits of a group's steps."""
        assert self.cache is not None
        requests = np.repeat(group.requests, group.sizes)
        return self.cache.read(_moved(requests, device), _moved(np.concatenate(group.rows), device))

    def _run_head(self, group: Group, hidden_states: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
        """[group size, tokens] logits of a group's rows of this batch."""
        device = hidden_states.device
        if not any(group.sizes):
            return torch.empty((0, len(ids)), device=device)
        hidden = hidden_states.index_select(0, _moved(np.concatenate(group.rows), device))
        return self._logits(hidden, self._on_device(ids, torch.int64, device))

    def _logits(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """[N, tokens]; of a full softmax, which is over columns that nobody asks for, its logarithm."""
        logits: torch.Tensor = self.head.log_probabilities(hidden, ids) if self._of_all else self.head(hidden, ids)
        return logits

    def _values(self, logits: torch.Tensor, read_out: ReadOut) -> torch.Tensor:
        """[N, tokens] logits -> [N] step scores with weights, else [N, tokens] probabilities or logits; float32."""
        values = read_out.activated(logits)
        if read_out.weights is None:
            return values
        return values @ self._on_device(read_out.weights, torch.float32, values.device)


def _moved(index: np.ndarray, device: torch.device) -> torch.Tensor:
    """To the device without waiting for it."""
    tensor = torch.from_numpy(index)
    return (tensor.pin_memory() if PIN_MEMORY else tensor).to(device, non_blocking=True)


def _whole_steps(
    batch: Batch, group: Group, values: torch.Tensor, spans: dict[int, tuple[int, int, int]]
) -> dict[int, torch.Tensor]:
    """By request, all steps [steps, ...] of those that are done. values: of the group's steps in this batch."""
    done = {}
    for request, chunk_steps in zip(group.requests, values.split(group.sizes), strict=True):
        span, is_last = spans[request], batch.is_last[request]
        if is_last and len(chunk_steps) == span[2]:  # the usual case: nothing was kept, nothing needs to be
            done[request] = chunk_steps
            continue
        all_steps = _kept_steps(batch.states[request], chunk_steps, span)
        if is_last:
            done[request] = all_steps
    return done


def _kept_steps(state: Any, chunk_steps: torch.Tensor, span: tuple[int, int, int]) -> torch.Tensor:
    """Put this chunk's steps to those of the request's earlier chunks; room for all of them, [steps, ...].

    state: vLLM's of the request. span: the request's steps before this chunk, up to its end, in all.
    """
    first, last, total = span
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
    return partial.values
