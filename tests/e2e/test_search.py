"""Thousands of requests of tree searches through a prefix cache far too small for them: each score is a fresh one's.

Beam search, best-of-N and MCTS-like forks, replayed on an engine whose KV pool evicts and preempts all the time, and
on one without prefix caching, which computes every prompt whole.
"""

from __future__ import annotations

import random

import pytest
from checkpoints import TAG
from conftest import running, step_config
from oracle import TOLERANCE, difference, tokens, words

REQUESTS = 5000
LONGEST = 320
SMALL_POOL = {
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "block_size": 32,
    "num_gpu_blocks_override": 16,  # 512 tokens: not two prompts of the longest kind
    "scheduler_reserve_full_isl": False,  # start prompts that may not fit, and preempt
    "long_prefill_token_threshold": 64,
    "max_num_batched_tokens": 256,
    "max_num_seqs": 16,
}


def step(rng: random.Random) -> list[int]:
    return [*words(rng, rng.randint(2, 24)), TAG]


def question(rng: random.Random) -> list[int]:
    return [1, *words(rng, rng.randint(5, 60))]


def beam_search(rng: random.Random) -> list[list[list[int]]]:
    """Each round re-sends the whole prefix of every beam; half the beams survive and fork."""
    beams, rounds = [question(rng)] * 4, []
    while max(map(len, beams)) < LONGEST - 30 and len(rounds) < 12:
        beams = [beam + step(rng) for beam in beams]
        rounds.append(beams)
        beams = [beam for beam in rng.sample(beams, 2) for _ in range(2)]
    return rounds


def best_of_n(rng: random.Random) -> list[list[list[int]]]:
    shared = question(rng)
    return [[shared + [t for _ in range(rng.randint(1, 8)) for t in step(rng)] for _ in range(16)]]


def tree_search(rng: random.Random) -> list[list[list[int]]]:
    """A few leaves at a time, each grown from any earlier node."""
    nodes, rounds = [question(rng)], []
    for _ in range(12):
        grown = [rng.choice(nodes) + step(rng) for _ in range(4)]
        nodes += [node for node in grown if len(node) < LONGEST - 30]
        rounds.append(grown)
    return rounds


@pytest.fixture(scope="module")
def batches():
    """Searches side by side, as a server sees them: each batch mixes a round of several."""
    rng = random.Random(0)
    made: list[list[list[int]]] = []
    while sum(map(len, made)) < REQUESTS:
        searches = [kind(rng) for kind in (beam_search, best_of_n, tree_search)]
        for number in range(max(map(len, searches))):
            made.append([p for search in searches if number < len(search) for p in search[number]])
    assert all(len(ids) <= LONGEST for batch in made for ids in batch)
    return made


def replay(llm, batches):
    for batch in batches:
        outputs = llm.encode([tokens(ids) for ids in batch], pooling_task="embed", use_tqdm=False)
        yield from zip(batch, outputs, strict=True)


def test_every_score_of_every_search(checkpoint, batches):
    folder = checkpoint("mistral")
    plain = {"enable_prefix_caching": False, "max_model_len": 384, "pooler_config": step_config()}
    with running(folder, **plain) as llm:
        expected = [output.outputs.data for _, output in replay(llm, batches)]
    cached = sent = 0
    with running(folder, **{**plain, **SMALL_POOL, "disable_log_stats": False}) as llm:
        before = preemptions(llm)
        for (ids, output), scores in zip(replay(llm, batches), expected, strict=True):
            assert len(output.outputs.data) == 2 * ids.count(TAG)
            assert difference(output.outputs.data, scores) < TOLERANCE
            cached, sent = cached + output.num_cached_tokens, sent + len(ids)
        assert preemptions(llm) > before, "nothing was preempted, so the test shows less than it says"
    assert len(expected) >= REQUESTS
    assert 0.2 < cached / sent < 0.9, (
        f"{cached} of {sent} tokens came from the cache: the pool no longer evicts or hits"
    )


def preemptions(llm) -> float:
    return sum(m.value for m in llm.get_metrics() if m.name == "vllm:num_preemptions")
