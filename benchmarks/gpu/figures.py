"""How fast one way to score is (ways.py), on a checkpoint of real size: the same work for all ways, one at a time.

Ratios of two ways are made of their answers, by report.py: a GPU keeps its speed, so they need not take turns.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from engines import engines, replay
from packaging.version import Version
from workloads import Batches, beam_search, best_of_n, ideal, long_solution, mean_lengths, sent

from gpu.checkpoints import TOKENS
from gpu.findings import NotPossible
from gpu.shapes import checkpoint
from vllm_prm.engine.compat import vllm_version

GENERATING = ("token_logprobs", "logprobs_time")  # a tenth as fast: the shortest searches only, and no bursts


@dataclass(frozen=True)
class Work:
    """turns: of best of N, each of 8 solutions. long, small: tokens of a long solution, solutions sent behind it."""

    turns: int
    rounds: tuple[int, ...]
    searches: int
    long: int
    small: int
    bursts: int


FULL = Work(turns=20, rounds=(12, 24, 40), searches=2, long=12_000, small=32, bursts=5)
TINY = Work(turns=2, rounds=(2, 3), searches=1, long=300, small=4, bursts=1)


def measure(shape: str, way: str, weights: Path, tiny: bool) -> dict[str, Any]:
    """The answer of the piece: seconds, tokens and scores. Raises NotPossible without CUDA, unless tiny."""
    if not torch.cuda.is_available() and not tiny:
        raise NotPossible("needs CUDA")
    if way == "token_logprobs" and not _has_token_logprobs():
        way = "logprobs_time"
    work, options = (TINY if tiny else FULL), _options(tiny)
    folder = checkpoint(shape, weights, tiny)
    with engines(str(folder), [way], TOKENS, options) as pipes:
        pipe = pipes[way]
        replay(pipe, beam_search(max(work.rounds) // 2 + 1, 99, TOKENS.tag))  # warms up, with many sizes of batches
        searches = {
            str(rounds): _turns(
                pipe, [beam_search(rounds, seed, TOKENS.tag) for seed in range(work.searches)], options["block_size"]
            )
            for rounds in (work.rounds[:1] if way in GENERATING else work.rounds)
        }
        return {
            "way": way,
            "nothing shared": _turns(pipe, [mean_lengths(seed, TOKENS.tag) for seed in range(work.turns)]),
            "one question": _turns(pipe, [best_of_n(seed, TOKENS.tag) for seed in range(work.turns)]),
            "searches": searches,
            "bursts": [] if way in GENERATING else [_burst(pipe, work, seed) for seed in range(work.bursts)],
        }


def _options(tiny: bool) -> dict[str, Any]:
    """Of every engine: compiled, with CUDA graphs, as vLLM does by default; tiny ones eager."""
    options = {"dtype": "bfloat16", "max_model_len": 12_288, "max_num_batched_tokens": 8192, "enforce_eager": tiny}
    if torch.cuda.is_available():
        return {**options, "block_size": 16, "gpu_memory_utilization": 0.85}
    return {**options, "block_size": 32}  # the smallest of vLLM's CPU attention


def _has_token_logprobs() -> bool:
    """vLLM has them since 0.32 (0.31: for all tokens alike), on its Model Runner V2, which it takes on GPUs."""
    return torch.cuda.is_available() and Version(vllm_version() or "0") >= Version("0.32")


def _turns(pipe: Connection, turns: list[Batches], block: int | None = None) -> dict[str, Any]:
    """Seconds, tokens sent and tokens cached of each turn, and the first turn's scores.

    block: where prefixes are sent again, the tokens of a block, to say what reuse of whole blocks would leave.
    """
    played = [replay(pipe, turn) for turn in turns]
    print(f"{len(turns)} turns: {sum(turn.seconds for turn in played):.1f} s", file=sys.stderr)
    answer = {
        "seconds": [round(turn.seconds, 5) for turn in played],
        "in the pooler": [round(turn.pooler, 5) for turn in played],
        "sent": [sent(turn) for turn in turns],
        "cached": [sum(turn.cached) for turn in played],
        "scores": [[round(score, 5) for score in scores] for scores in played[0].scores] if block is None else [],
    }
    return answer | ({"ideal": [ideal(turn, block) for turn in turns]} if block else {})


def _burst(pipe: Connection, work: Work, seed: int) -> dict[str, float]:
    """A long solution and many ordinary ones behind it: after how many seconds these are answered."""
    small = best_of_n(seed, TOKENS.tag, work.small, 1)[0]
    turn = replay(pipe, [[long_solution(seed, TOKENS.tag, work.long), *small]], timed=True)
    waited = sorted(turn.finished[1:])
    return {"p50": waited[len(waited) // 2], "p95": waited[int(0.95 * len(waited))], "all": max(turn.finished)}
