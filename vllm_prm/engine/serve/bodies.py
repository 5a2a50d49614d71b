"""The bodies of `POST /v1/prm/score` and `POST /get_reward`: requests of the wire -> responses of the wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vllm_prm.engine.serve.caller import concurrently
from vllm_prm.engine.serve.serving import SOLUTION_ERRORS, error_info
from vllm_prm.errors import RequestError, ScorerError
from vllm_prm.prompts import split_steps
from vllm_prm.wire import (
    CachedTokens,
    ErrorInfo,
    Failure,
    Malformed,
    RewardResponse,
    Score,
    ScoreResponse,
    Solution,
    Usage,
    packed,
)

if TYPE_CHECKING:
    from vllm_prm.engine.serve.caller import Caller
    from vllm_prm.engine.serve.serving import PRMServing
    from vllm_prm.scores import StepScores
    from vllm_prm.wire import RewardRequest, ScoreRequest


async def score_response(serving: PRMServing, request: ScoreRequest, caller: Caller) -> ScoreResponse | ErrorInfo:
    """The response to a score request; an ErrorInfo if its only solution, sent by itself, cannot be scored."""
    created = int(time.time())
    entries: list[Score | Failure] = await concurrently(
        _entry(serving, index, solution, request, caller) for index, solution in enumerate(request.solutions)
    )
    if request.steps is not None and isinstance(entries[0], Failure):
        return entries[0].error
    scores = [entry for entry in entries if isinstance(entry, Score)]
    response = ScoreResponse(
        id=caller.request_id,
        object="list",
        created=created,
        model=caller.model,
        aggregate=request.aggregate or serving.recipe.aggregation,
        data=entries,
        usage=_usage(scores),
    )
    if request.candidates is not None:
        response.best = max(scores, key=lambda entry: entry.score).index if scores else None
    return response


def _usage(scores: Sequence[Score]) -> Usage:
    num_tokens = sum(entry.num_prompt_tokens for entry in scores)
    num_cached = sum(entry.num_cached_tokens for entry in scores)
    return Usage(
        prompt_tokens=num_tokens,
        total_tokens=num_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=num_cached),
    )


async def _entry(
    serving: PRMServing, index: int, solution: Solution | Malformed, request: ScoreRequest, caller: Caller
) -> Score | Failure:
    try:
        if isinstance(solution, Malformed):
            raise RequestError(solution.message)
        scores = await serving.score(solution.question, solution.steps, caller, str(index))
        entry = Score(
            index=index,
            object="prm.score",
            step_scores=list(scores.step_scores),
            score=scores.aggregate(request.aggregate),
            first_error=scores.first_error(),
            num_prompt_tokens=scores.num_prompt_tokens,
            num_cached_tokens=scores.num_cached_tokens,
        )
        if scores.answer_mass:
            entry.answer_mass = list(scores.answer_mass)
        if request.returned != "scores":
            rows = getattr(scores, request.returned)
            is_packed = request.encoding_format == "base64"
            setattr(entry, request.returned, packed(rows) if is_packed else [*map(list, rows)])
        return entry
    except SOLUTION_ERRORS as error:
        param = solution.param if isinstance(solution, Malformed) else None
        return Failure(index=index, object="error", error=error_info(error, param))


async def reward_response(
    serving: PRMServing, request: RewardRequest, caller: Caller, aggregate: str | None, on_error: float | None
) -> RewardResponse:
    """One reward per query.

    aggregate: how step scores become the reward; None: the recipe's own way. on_error: the reward of a query that
    cannot be scored. Raises RequestError, which names every such query, if that is None.
    """
    prompts: Sequence[str | None] = request.prompts or [None] * len(request.query)
    results: list[StepScores | Exception] = await concurrently(
        _query_scores(serving, query, prompt, caller, str(index))
        for index, (query, prompt) in enumerate(zip(request.query, prompts, strict=True))
    )
    errors = {index: str(result) for index, result in enumerate(results) if isinstance(result, Exception)}
    if errors and on_error is None:
        raise RequestError(
            "; ".join(f"query {index}: {error}" for index, error in errors.items())
            + ". To give such queries a reward instead of failing the request, call /get_reward?on_error=0"
        )
    aggregation = aggregate or serving.recipe.aggregation
    return RewardResponse(
        rewards=_rewards(results, aggregation, on_error),
        # OpenRLHF expects scores in [0, 1]; a sum of logarithms is not, the product has its order and is.
        scores=_rewards(results, "product" if aggregation == "sum_log" else aggregation, on_error),
        extra_logs={
            "prm_steps": [0.0 if isinstance(result, Exception) else float(len(result)) for result in results],
            "prm_min": _rewards(results, "min", on_error),
            "prm_mean": _rewards(results, "mean", on_error),
            "prm_last": _rewards(results, "last", on_error),
            "prm_unscored": [float(isinstance(result, Exception)) for result in results],
        },
        step_scores=[[] if isinstance(result, Exception) else list(result.step_scores) for result in results],
        errors=errors,
    )


def _rewards(results: Sequence[StepScores | Exception], aggregation: str, on_error: float | None) -> list[float]:
    substitute = on_error or 0.0  # None only where there is nothing to stand in for
    return [substitute if isinstance(result, Exception) else result.aggregate(aggregation) for result in results]


async def _query_scores(
    serving: PRMServing, query: str, prompt: str | None, caller: Caller, name: str
) -> StepScores | Exception:
    try:
        if prompt is not None:
            solution = _solution(query, prompt, serving.tokenizer.all_special_tokens)
            return await serving.score(prompt, split_steps(solution, serving.recipe), caller, name)
        return await serving.score_text(query, caller, name)
    except ScorerError:
        raise  # a reward in its place would hide that nothing can be scored
    except SOLUTION_ERRORS as error:
        return error


def _solution(query: str, prompt: str, special_tokens: Sequence[str]) -> str:
    """The query after its prompt. OpenRLHF decodes queries with special tokens: BOS may stand before the prompt, and
    EOS and padding after the solution."""
    before, separator, solution = query.partition(prompt)
    for token in special_tokens:
        before = before.replace(token, "")
    if not separator or before.strip():
        raise RequestError(
            f"the query does not begin with its prompt: query {query[:60]!r}, prompt {prompt[:60]!r}. Send prompts as "
            "they stand in the queries, or no prompts, with step tags in the queries"
        )
    solution = solution.rstrip()
    while ending := next((token for token in special_tokens if token and solution.endswith(token)), None):
        solution = solution.removesuffix(ending).rstrip()
    return solution
