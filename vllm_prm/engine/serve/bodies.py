"""The bodies of `POST /v1/prm/score` and `POST /get_reward`: requests of the schema -> responses of the schema."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.serve.serving import SOLUTION_ERRORS, concurrently, error_info, is_servers_fault
from vllm_prm.errors import RequestError
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
)

if TYPE_CHECKING:
    from vllm_prm.engine.serve.serving import Caller, PRMServing
    from vllm_prm.scores import StepScores
    from vllm_prm.wire import RewardRequest, ScoreRequest


async def scores(serving: PRMServing, request: ScoreRequest, caller: Caller) -> ScoreResponse | ErrorInfo:
    """The answer to a score request; an ErrorInfo if its only solution, asked by itself, cannot be scored."""
    created = int(time.time())
    data: list[Score | Failure] = await concurrently(
        _entry(serving, i, solution, request, caller) for i, solution in enumerate(request.solutions)
    )
    if request.steps is not None and isinstance(data[0], Failure):
        return data[0].error
    scored = [entry for entry in data if isinstance(entry, Score)]
    tokens = sum(entry.num_prompt_tokens for entry in scored)
    answer = ScoreResponse(
        id=caller.request_id,
        object="list",
        created=created,
        model=caller.model,
        aggregate=request.aggregate or serving.recipe.aggregation,
        data=data,
        usage=Usage(
            prompt_tokens=tokens,
            total_tokens=tokens,
            prompt_tokens_details=CachedTokens(cached_tokens=sum(entry.num_cached_tokens for entry in scored)),
        ),
    )
    if request.candidates is not None:
        answer.best = max(scored, key=lambda entry: entry.score).index if scored else None
    return answer


async def _entry(
    serving: PRMServing, index: int, solution: Solution | Malformed, request: ScoreRequest, caller: Caller
) -> Score | Failure:
    try:
        if isinstance(solution, Malformed):
            raise RequestError(solution.message)
        found = await serving.score(solution.question, solution.steps, caller, str(index))
        entry = Score(
            index=index,
            object="prm.score",
            step_scores=list(found.step_scores),
            score=found.aggregate(request.aggregate),
            first_error=found.first_error(),
            num_prompt_tokens=found.num_prompt_tokens,
            num_cached_tokens=found.num_cached_tokens,
        )
        if request.returned != "scores":
            setattr(entry, request.returned, [list(row) for row in getattr(found, request.returned)])
        return entry
    except SOLUTION_ERRORS as error:
        param = solution.param if isinstance(solution, Malformed) else None
        return Failure(index=index, object="error", error=error_info(error, param))


async def rewards(
    serving: PRMServing, request: RewardRequest, caller: Caller, aggregate: str | None, on_error: float | None
) -> RewardResponse:
    """One reward per query. Raises RequestError, which names every query that cannot be scored, unless `on_error`
    gives their reward."""
    prompts: list[Any] = list(request.prompts) if request.prompts is not None else [None] * len(request.query)
    found: list[StepScores | Exception] = await concurrently(
        _judged(serving, query, prompt, caller, str(i))
        for i, (query, prompt) in enumerate(zip(request.query, prompts, strict=True))
    )
    errors = {i: str(result) for i, result in enumerate(found) if isinstance(result, Exception)}
    if errors and on_error is None:
        raise RequestError(
            "; ".join(f"query {i}: {error}" for i, error in errors.items())
            + ". To give such queries a reward instead of failing the request, call /get_reward?on_error=0"
        )
    how = aggregate or serving.recipe.aggregation
    return RewardResponse(
        rewards=_numbers(found, how, on_error),
        # OpenRLHF expects scores in [0, 1]; a sum of logarithms is not, the product has its order and is.
        scores=_numbers(found, "product" if how == "sum_log" else how, on_error),
        extra_logs={
            "prm_steps": [0.0 if isinstance(result, Exception) else float(len(result)) for result in found],
            "prm_min": _numbers(found, "min", on_error),
            "prm_mean": _numbers(found, "mean", on_error),
            "prm_last": _numbers(found, "last", on_error),
            "prm_unscored": [float(isinstance(result, Exception)) for result in found],
        },
        step_scores=[[] if isinstance(result, Exception) else list(result.step_scores) for result in found],
        errors=errors,
    )


def _numbers(found: list[StepScores | Exception], how: str, on_error: float | None) -> list[float]:
    instead = on_error or 0.0  # None only where there is nothing to stand in for
    return [instead if isinstance(result, Exception) else result.aggregate(how) for result in found]


async def _judged(
    serving: PRMServing, query: str, prompt: str | None, caller: Caller, name: str
) -> StepScores | Exception:
    try:
        if prompt is not None:
            response = _response(query, prompt, serving.tokenizer.all_special_tokens)
            return await serving.score(prompt, split_steps(response, serving.recipe), caller, name)
        return await serving.score_text(query, caller, name)
    except SOLUTION_ERRORS as error:
        if is_servers_fault(error):
            raise  # a reward in its place would hide that nothing can be scored
        return error


def _response(query: str, prompt: str, special: list[str]) -> str:
    """The query after its prompt. OpenRLHF decodes queries with special tokens: BOS may stand before the prompt, and
    EOS and padding after the response."""
    before, at, response = query.partition(prompt)
    for token in special:
        before = before.replace(token, "")
    if not at or before.strip():
        raise RequestError(
            f"the query does not begin with its prompt: query {query[:60]!r}, prompt {prompt[:60]!r}. Send prompts as "
            "they stand in the queries, or no prompts, with step tags in the queries"
        )
    response = response.rstrip()
    while ending := next((token for token in special if token and response.endswith(token)), None):
        response = response.removesuffix(ending).rstrip()
    return response
