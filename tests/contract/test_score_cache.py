"""Model-based: whatever block vLLM's own KVCacheManager serves, its scores are there and are the right ones.

The manager is vLLM's; the scheduler around it is a few lines here, so that hypothesis can drive it where a real one
seldom goes: pools of a few blocks that evict all the time, forks of running prompts, aborts and preemptions in the
middle of a prompt, resets. The score of a position is a fingerprint of all tokens up to it, so a row that belongs to
another prefix, or was never written, cannot pass. More runs: `pytest --hypothesis-profile=many` (see conftest).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.pooling_params import PoolingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from vllm_prm.engine.worker.score_cache import ScoreCache, _ScoreBackend, _Slots

BLOCK, WIDTH, LONGEST, SALTS = 4, 2, 64, (None, "a")
init_none_hash(sha256)


def fingerprint(salt: str | None, prefix: list[int]) -> list[float]:
    """Two numbers that another prefix, or the same under another salt, practically never has."""
    value = hash((salt, *prefix))
    return [float(value % 1_000_003), float(value // 1_000_003 % 1_000_003)]


@dataclass
class Engine:
    """The part of an engine that moves blocks: vLLM's manager, and our cache beside its KV."""

    blocks: int
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    prompts: list[tuple[str | None, list[int]]] = field(default_factory=list)
    hits: int = 0

    def __post_init__(self) -> None:
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=WIDTH, dtype=torch.float32)
        config = KVCacheConfig(self.blocks, [], [KVCacheGroupSpec(["layer"], spec)])
        self.manager = KVCacheManager(config, LONGEST, scheduler_block_size=BLOCK, hash_block_size=BLOCK)
        self.hasher = get_request_block_hasher(BLOCK, sha256)
        vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(get_total_num_hidden_layers=lambda: 1),
            compilation_config=SimpleNamespace(static_forward_context={}),
        )
        self.cache = ScoreCache(WIDTH, vllm_config)  # type: ignore[arg-type]
        self.cache.bind_kv_cache(torch.full((self.blocks, 1, BLOCK, WIDTH), float("nan")))

    def add(self, salt: str | None, ids: list[int]) -> None:
        params = PoolingParams(task="embed", skip_reading_prefix_cache=False)
        name = str(len(self.prompts))
        self.prompts.append((salt, ids))
        self.waiting.append(Request(name, ids, None, params, cache_salt=salt, block_hasher=self.hasher))

    def step(self, budget: int, chunk: int) -> None:
        """Schedule as vLLM does: running requests first, then waiting ones, until the budget or the pool is spent."""
        scheduled: list[tuple[Request, int]] = []
        for request in [*self.running, *self.waiting]:
            new = request in self.waiting
            cached, count, _ = self.manager.get_computed_blocks(request) if new else (None, 0, 0)
            start = count if new else request.num_computed_tokens
            tokens = min(chunk, budget, request.num_tokens - start)
            if tokens <= 0:
                break
            if self.manager.allocate_slots(request, tokens, count, cached) is None:
                continue
            if new:
                self.waiting.remove(request)
                self.running.append(request)
                request.num_computed_tokens = count
                self.hits += count
            budget -= tokens
            scheduled.append((request, tokens))
        if not scheduled and self.running:
            self.preempt(len(self.running) - 1)  # the pool is full of half-done prompts: vLLM preempts the last
        if scheduled:
            self.forward(scheduled)

    def forward(self, scheduled: list[tuple[Request, int]]) -> None:
        """What the model runner and the pooler do with a batch, with fingerprints for logits."""
        table = torch.zeros((len(scheduled), LONGEST // BLOCK), dtype=torch.int32)
        slots, values = [], []
        for row, (request, tokens) in enumerate(scheduled):
            (blocks,) = self.manager.get_block_ids(request.request_id)
            table[row, : len(blocks)] = torch.tensor(blocks)
            salt, ids = self.prompts[int(request.request_id)]
            for position in range(request.num_computed_tokens, request.num_computed_tokens + tokens):
                slots.append(blocks[position // BLOCK] * BLOCK + position % BLOCK)
                values.append(fingerprint(salt, ids[: position + 1]))
            request.num_computed_tokens += tokens
        self.cache.slots = _Slots(torch.tensor(slots), table)
        self.cache.write(torch.tensor(values))
        for row, (request, _) in enumerate(scheduled):
            self.check(row, request)
            if request.num_computed_tokens == request.num_tokens:
                self.running.remove(request)
                self.manager.free(request)

    def check(self, row: int, request: Request) -> None:
        """Every position computed so far, by this request or by whoever filled its cached blocks."""
        salt, ids = self.prompts[int(request.request_id)]
        positions = torch.arange(request.num_computed_tokens)
        found = self.cache.read(torch.full_like(positions, row), positions)
        expected = torch.tensor([fingerprint(salt, ids[: p + 1]) for p in positions.tolist()])
        assert torch.equal(found, expected)

    def preempt(self, index: int) -> None:
        if self.running:
            request = self.running.pop(index % len(self.running))
            self.manager.free(request)
            request.num_computed_tokens = 0
            self.waiting.insert(0, request)

    def abort(self, index: int) -> None:
        if self.running:
            self.manager.free(self.running.pop(index % len(self.running)))

    def reset(self) -> None:
        while self.running:
            self.preempt(0)
        assert self.manager.reset_prefix_cache()


tails = st.lists(st.integers(0, 2), min_size=1, max_size=14)  # three tokens: many prefixes coincide
numbers = st.integers(0, 99)
operations = st.one_of(
    st.tuples(st.just("new"), st.sampled_from(SALTS), tails),
    st.tuples(st.just("fork"), numbers, numbers, tails),
    st.tuples(st.just("step"), st.integers(1, 40), st.integers(1, 20)),
    st.tuples(st.just("step"), st.integers(20, 40), st.integers(8, 20)),
    st.tuples(st.just("preempt"), numbers),
    st.tuples(st.just("abort"), numbers),
    st.tuples(st.just("reset")),
)


def run(blocks: int, steps: list[tuple]) -> Engine:
    engine = Engine(blocks)
    for name, *values in steps:
        if name == "new":
            engine.add(*values)
        elif name == "fork" and engine.prompts:
            parent, cut, tail = values
            salt, ids = engine.prompts[parent % len(engine.prompts)]
            engine.add(salt, [*ids[: cut % len(ids) + 1], *tail][: (blocks - 1) * BLOCK])
        elif name in ("step", "preempt", "abort", "reset"):
            getattr(engine, name)(*values)
    for _ in range(200):  # run dry: every prompt that was not aborted is answered
        if not engine.waiting and not engine.running:
            return engine
        engine.step(40, 20)
    raise AssertionError("requests are stuck, so nothing was shown")


@settings(deadline=None)
@given(blocks=st.integers(5, 16), steps=st.lists(operations, min_size=5, max_size=40))
def test_every_served_position_has_its_own_score(blocks, steps):
    run(blocks, steps)


def test_the_model_above_does_hit_the_cache():
    ids = [0, 1, 2] * 5
    engine = run(12, [("new", None, ids), ("step", 40, 20), ("new", None, ids), ("new", "a", ids)])
    assert engine.hits == 12  # three whole blocks of the same prompt, none under another salt


def test_a_score_in_the_wrong_place_does_not_pass():
    """The check itself can fail: shift one write by a slot."""
    engine = Engine(8)
    engine.add(None, [0, 1, 2, 0, 1])
    original = engine.cache.write

    def shifted(values: torch.Tensor) -> None:
        assert engine.cache.slots is not None
        engine.cache.slots.slot_mapping = engine.cache.slots.slot_mapping + 1
        original(values)

    engine.cache.write = shifted  # type: ignore[method-assign]
    try:
        engine.step(40, 20)
    except AssertionError:
        return
    raise AssertionError("a shifted score went unnoticed")


def test_vllms_batch_invariant_mode_takes_our_backend():
    """Its second runner does not start with a backend that does not say so, which is what the base class says."""
    assert _ScoreBackend.supports_batch_invariance()
