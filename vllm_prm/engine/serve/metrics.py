"""Our figures beside vLLM's on `/metrics`: what was scored, what was refused and why, what planning takes.

Prometheus' client library adds them up over API server processes, as it does vLLM's own. Our names do not begin with
`vllm:`, because vLLM takes such collectors down when its engine's figures are set up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Counter, Histogram

from vllm_prm.errors import RequestError, ScorerError
from vllm_prm.scores import StepScores

SOLUTIONS = Counter("prm_solutions", "Solutions that got their step scores.")
STEPS = Counter("prm_steps", "Steps of these solutions.")
PROMPT_TOKENS = Counter("prm_prompt_tokens", "Tokens of their prompts.")
CACHED_TOKENS = Counter("prm_cached_tokens", "Those of them that came from vLLM's prefix cache.")
REFUSED = Counter(
    "prm_refused",
    "Solutions without scores. reason: input (what was sent cannot be scored), vllm (vLLM refused it or failed), "
    "server (the recipe or the model does not fit, or gave no numbers).",
    ["reason"],
)
PLANNED = Counter("prm_planned", "Solutions that were made into prompts, whether that succeeded or not.")
PLANNING = Histogram(
    "prm_planning_seconds",
    "Time to make prompts of the solutions that are planned together: tokenizing, in a thread.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),  # seconds; one solution takes 0.001
)


async def counted(scoring: Awaitable[StepScores]) -> StepScores:
    """What is awaited, counted. A solution whose caller has left counts as neither."""
    try:
        scores = await scoring
    except Exception as error:
        REFUSED.labels(_reason(error)).inc()
        raise
    SOLUTIONS.inc()
    STEPS.inc(len(scores))
    PROMPT_TOKENS.inc(scores.num_prompt_tokens)
    CACHED_TOKENS.inc(scores.num_cached_tokens)
    return scores


@contextmanager
def planning(count: int) -> Iterator[None]:
    """Time the planning of `count` solutions."""
    begun = perf_counter()
    try:
        yield
    finally:
        PLANNING.observe(perf_counter() - begun)
        PLANNED.inc(count)


def _reason(error: Exception) -> str:
    if isinstance(error, RequestError):
        return "input"
    return "server" if isinstance(error, ScorerError) else "vllm"
