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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.logger import init_logger
from vllm.model_executor.layers.pooler import Pooler, PoolingParamsUpdate
from vllm.utils.torch_utils import PIN_MEMORY

from vllm_prm.engine.positions import Tags, asked_positions, tag_positions
from vllm_prm.engine.settings import TASKS, StepSettings
from vllm_prm.engine.vocabulary import glued_ids
from vllm_prm.engine.worker.head import ScoringHead
from vllm_prm.engine.worker.own_heads import OwnHead, ValueHead
from vllm_prm.engine.worker.score_cache import ScoreCache

if TYPE_CHECKING:
    from vllm.pooling_params import PoolingParams
    from vllm.v1.pool.metadata import PoolingMetadata

logger = init_logger(f"vllm.{__name__}")


# Hidden states per call of the head when every token is scored: bounds the float32 copy that vLLM's head makes of
# them to 1024 * 16,384 * 4 bytes = 64 MiB for the widest model of vLLM 0.32.
_ROWS_AT_ONCE = 1024


class Reading(NamedTuple):
    """What is read for a step; requests with an equal Reading share one pass through the head."""

    scoring_ids: tuple[int, ...]
    weights: tuple[float, ...] | None  # None: every probability is returned, not their weighted sum
    activation: str | None  # "softmax" or "sigmoid"; None: raw logits
    flat: bool  # one row-major vector (task embed), or a matrix [steps, scoring tokens]


@dataclass
class _Group:
    """Rows of one batch that share a Reading.

    rows: per request, indices into this batch's hidden states; of a request that reads the score cache,
    the positions of its steps in its prompt.
    """

    rows: list[np.ndarray] = field(default_factory=list)
    slices: list[tuple[int, slice]] = field(default_factory=list)  # (request, its rows of the group's result)
    size: int = 0

    def add(self, request: int, rows: np.ndarray) -> None:
        self.slices.append((request, slice(self.size, self.size + len(rows))))
        self.rows.append(rows)
        self.size += len(rows)


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
        self._glued = lru_cache(maxsize=64)(lambda tag: glued_ids(tag, tokenizer) if tokenizer else ())
        self._glued_prompts = 0
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
        cached = self.cache is not None and self.cache.ready
        if cached:
            self._write_cache(hidden_states)
        cursor = pooling_metadata.get_pooling_cursor()
        scheduled = cursor.num_scheduled_tokens_cpu.tolist()
        ends = cursor.seq_lens_cpu.tolist()
        finished = cursor.is_finished().tolist()
        prompts = pooling_metadata.get_prompt_token_ids_cpu()

        fresh: dict[Reading, _Group] = defaultdict(_Group)  # requests whose steps are read from this batch's rows
        kept: dict[Reading, _Group] = defaultdict(_Group)  # finished requests whose steps are in the score cache
        spans: dict[int, tuple[int, int, int]] = {}  # of fresh ones: steps before this chunk, after it, in all
        row = 0  # of hidden_states, where request i begins
        for i, params in enumerate(pooling_metadata.pooling_params):
            tags, offset, reading = self._wanted(params)
            start, end, first_row = ends[i] - scheduled[i], ends[i], row
            row += scheduled[i]
            reads_cache = cached and reading.scoring_ids == self.settings.scoring_ids
            if reads_cache and not finished[i]:
                continue  # its logits are written; where its steps are matters when it is done
            prompt = prompts[i].numpy()
            steps = asked_positions(params.extra_kwargs)
            if steps is None:
                steps = tag_positions(prompt, tags, offset)
                if finished[i]:
                    self._warn_if_glued(tags, prompt)
            elif len(steps) and steps[-1] >= len(prompt):  # only here is the prompt's length known
                steps = steps[:0]
            if reads_cache:
                kept[reading].add(i, steps)
            else:
                first, last = np.searchsorted(steps, (start, end)).tolist()
                fresh[reading].add(i, steps[first:last] + (first_row - start))
                spans[i] = (first, last, len(steps))

        outputs: list[torch.Tensor | None] = [None] * len(finished)
        for reading, group in kept.items():
            values = self._values(self._read_cache(group, hidden_states.device), reading)
            for i, rows in group.slices:
                outputs[i] = _shaped(values[rows], reading)
        for reading, group in fresh.items():
            values = self._values(self._run_head(group, hidden_states, reading.scoring_ids), reading)
            for i, rows in group.slices:
                chunk = values[rows]
                if not finished[i] or len(chunk) != spans[i][2]:
                    chunk = _placed(pooling_metadata.pooling_states[i], chunk, *spans[i])
                if finished[i]:
                    outputs[i] = _shaped(chunk, reading)
        if self.cache is not None:
            self.cache.slots = None  # of this batch only: a stale slot would put a score in another prompt's place
        return outputs

    def _wanted(self, params: PoolingParams) -> tuple[Tags, int, Reading]:
        """The step tags, the offset and the reading of one request: its own where it names them, else the engine's."""
        ours = self.settings
        tags, offset = ours.step_tags, ours.offset
        if params.step_tag_id is not None:
            tags, offset = ((params.step_tag_id,),), 0
        ids = ours.scoring_ids if params.returned_token_ids is None else tuple(params.returned_token_ids)
        activation = None if params.use_activation is False else ours.activation
        flat = params.task == "embed"
        weights = ours.weights if flat and activation and ids == ours.scoring_ids else None
        return tags, offset, Reading(ids, weights, activation, flat)

    def _write_cache(self, hidden_states: torch.Tensor) -> None:
        """The engine's scoring logits of every scheduled token, to the token's own slot."""
        assert self.cache is not None
        ids = self._on_device(self.settings.scoring_ids, torch.int64, hidden_states.device)
        logits = [self.head(rows, ids) for rows in hidden_states.split(_ROWS_AT_ONCE)]
        self.cache.write(torch.cat(logits))

    def _read_cache(self, group: _Group, device: torch.device) -> torch.Tensor:
        """[group size, tokens] logits of a group's steps."""
        assert self.cache is not None
        lengths = [rows.stop - rows.start for _, rows in group.slices]
        requests = np.repeat([i for i, _ in group.slices], lengths)
        return self.cache.read(_moved(requests, device), _moved(np.concatenate(group.rows), device))

    def _run_head(self, group: _Group, hidden_states: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
        """[group size, tokens] logits of a group's rows of this batch."""
        device = hidden_states.device
        if not group.size:
            return torch.empty((0, len(ids)), device=device)
        hidden = hidden_states.index_select(0, _moved(np.concatenate(group.rows), device))
        return self.head(hidden, self._on_device(ids, torch.int64, device))

    def _values(self, logits: torch.Tensor, reading: Reading) -> torch.Tensor:
        """[N, tokens] logits -> [N] step scores with weights, else [N, tokens] probabilities or logits; float32."""
        values = logits.float()
        if reading.activation is not None:
            values = values.softmax(dim=-1) if reading.activation == "softmax" else values.sigmoid()
        if reading.weights is not None:
            values = values @ self._on_device(reading.weights, torch.float32, values.device)
        return values

    def _warn_if_glued(self, tags: Tags, prompt: np.ndarray) -> None:
        """Counted, and logged at 1, 10, 100, ... prompts: a dataset with this fault must not fill the log."""
        glued = [id_ for tag in tags if len(tag) == 1 for id_ in self._glued(tag[0])]
        if not glued or get_tensor_model_parallel_rank() != 0 or not np.isin(prompt, glued).any():
            return
        self._glued_prompts += 1
        if str(self._glued_prompts).strip("0") == "1":
            logger.warning(
                "A prompt contains token %s, which reads like the step tag (token %s) but is another token: the tag "
                "is glued to the word before it, as in 'day.ки' for 'day. ки'. That step gets no score. Put a space "
                "before the tag, or send token ids. (%d such prompts so far.)",
                ", ".join(map(str, glued)),
                ", ".join(str(tag[0]) for tag in tags if len(tag) == 1),
                self._glued_prompts,
            )


def _moved(index: np.ndarray, device: torch.device) -> torch.Tensor:
    """To the device without waiting for it."""
    tensor = torch.from_numpy(index)
    return (tensor.pin_memory() if PIN_MEMORY else tensor).to(device, non_blocking=True)


def _shaped(values: torch.Tensor, reading: Reading) -> torch.Tensor:
    return values.flatten() if reading.flat else values


def _placed(state: Any, chunk: torch.Tensor, first: int, last: int, total: int) -> torch.Tensor:
    """Write this chunk's steps first..last into the request's rows and return all of them, [total, ...]."""
    held = getattr(state, "prm", None)
    if held is None or first == 0:
        held = state.prm = _Partial(chunk.new_empty((total, *chunk.shape[1:])))
    if first > held.known:
        raise RuntimeError(  # stops the engine: better than a score that belongs to another step
            f"steps {held.known} to {first - 1} of a prompt were never computed: vLLM skipped their positions "
            "although this request does not read the prefix cache. Please report this with your engine flags."
        )
    held.values[first:last] = chunk
    held.known = last
    return held.values
