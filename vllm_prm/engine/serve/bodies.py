"""What our routes answer, those of RL stacks and of OpenR too: requests of the wire -> responses of the wire."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from vllm_prm.engine.serve.caller import concurrently
from vllm_prm.engine.serve.serving import SOLUTION_ERRORS, TaglessError, error_info
from vllm_prm.errors import RequestError, ScorerError
from vllm_prm.prompts import split_steps
from vllm_prm.reward import Reward, question_of, solution_of
from vllm_prm.wire import (
    CachedTokens,
    ErrorInfo,
    Failure,
    Malformed,
    PromptsResponse,
    RewardResponse,
    SampleResponse,
    Score,
    ScoreResponse,
    Solution,
    Usage,
    ValuesResponse,
    packed,
)

if TYPE_CHECKING:
    from vllm_prm.engine.serve.caller import Caller
    from vllm_prm.engine.serve.serving import PRMServing
    from vllm_prm.scores import StepScores
    from vllm_prm.wire import PromptsRequest, RewardRequest, SampleRequest, ScoreRequest, ValuesRequest


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


async def prompts_response(serving: PRMServing, request: PromptsRequest) -> PromptsResponse:
    """Raises one of SOLUTION_ERRORS for a solution that cannot be scored."""
    steps = request.steps if request.steps is not None else split_steps(request.solution or "", serving.recipe)
    return PromptsResponse(steps=steps, prompts=await serving.tokens(request.question, steps))


async def reward_response(
    serving: PRMServing, request: RewardRequest, caller: Caller, aggregate: str | None, on_error: float | None
) -> RewardResponse:
    """One reward per query.

    aggregate: how step scores become the reward; None: the recipe's own way. on_error: the reward of a query that
    cannot be scored. Raises RequestError, which names every such query, if that is None.
    """
    prompts: Sequence[str | None] = request.prompts or [None] * len(request.query)
    aggregation = aggregate or serving.recipe.aggregation
    rewards = [
        Reward(result, aggregation)
        for result in await concurrently(
            _query_scores(serving, query, prompt, caller, str(index))
            for index, (query, prompt) in enumerate(zip(request.query, prompts, strict=True))
        )
    ]
    errors = {index: reward.error for index, reward in enumerate(rewards) if reward.error is not None}
    if errors and on_error is None:
        raise RequestError(
            "; ".join(f"query {index}: {error}" for index, error in errors.items())
            + ". To give such queries a reward instead of failing the request, call /get_reward?on_error=0"
        )
    stand_in = on_error or 0.0  # None only where there is nothing to stand in for
    logs = [reward.logs(stand_in) for reward in rewards]
    return RewardResponse(
        rewards=[reward.value_or(stand_in) for reward in rewards],
        # OpenRLHF expects scores in [0, 1]; a sum of logarithms is not, the product has its order and is.
        scores=[
            Reward(reward.result, "product" if aggregation == "sum_log" else aggregation).value_or(stand_in)
            for reward in rewards
        ],
        extra_logs={name: [numbers[name] for numbers in logs] for name in logs[0]},
        step_scores=[list(reward.step_scores) for reward in rewards],
        errors=errors,
    )


async def sample_response(
    serving: PRMServing, request: SampleRequest, caller: Caller, aggregate: str | None, on_error: float | None
) -> SampleResponse:
    """The reward of slime's and vime's one sample; aggregate and on_error as in reward_response, but that on_error is 0
    unless it is said: these stacks ask ten times for an answer that is an error, and then end the run.

    Raises RequestError for no on_error with sum_log, whose best reward is 0.
    """
    prompt = request.prompt if isinstance(request.prompt, str) else [one.model_dump() for one in request.prompt]
    solution = solution_of(request.response, serving.tokenizer.all_special_tokens)
    result = await _solution_scores(serving, question_of(prompt), solution, caller, "0")
    reward = Reward(result, aggregate or serving.recipe.aggregation)
    return SampleResponse(
        reward=reward.value_or(on_error),
        step_scores=list(reward.step_scores),
        first_error=None if isinstance(result, Exception) else result.first_error(),
        error=reward.error,
    )


async def values_response(serving: PRMServing, request: ValuesRequest, caller: Caller) -> ValuesResponse:
    """The step scores of each text, at the step tags in it.

    Raises RequestError, which names the text, for one without a step tag: OpenR ends each of its texts with a tag, so
    it asks with another recipe's. A text that cannot be scored otherwise, such as one that is too long, has no values.
    """
    texts = [request.input_str] if isinstance(request.input_str, str) else request.input_str
    results = await concurrently(
        _scores_or_error(serving.score_text(text, caller, str(index))) for index, text in enumerate(texts)
    )
    errors = {index: result for index, result in enumerate(results) if isinstance(result, Exception)}
    for index, error in errors.items():
        if isinstance(error, TaglessError):
            raise RequestError(f"input_str {index}: {error}")
    values = [[] if isinstance(result, Exception) else list(result.step_scores) for result in results]
    return ValuesResponse(
        input=request.input_str,
        value=values[0] if isinstance(request.input_str, str) else values,
        errors={index: str(error) for index, error in errors.items()},
    )


async def _query_scores(
    serving: PRMServing, query: str, prompt: str | None, caller: Caller, name: str
) -> StepScores | Exception:
    if prompt is None:
        return await _scores_or_error(serving.score_text(query, caller, name))
    try:
        solution = _solution(query, prompt, serving.tokenizer.all_special_tokens)
    except RequestError as error:
        return error
    return await _solution_scores(serving, question_of(prompt), solution, caller, name)


async def _solution_scores(
    serving: PRMServing, question: str, solution: str, caller: Caller, name: str
) -> StepScores | Exception:
    try:
        steps = split_steps(solution, serving.recipe)
    except RequestError as error:
        return error
    return await _scores_or_error(serving.score(question, steps, caller, name))


async def _scores_or_error(scores: Awaitable[StepScores]) -> StepScores | Exception:
    """What is wrong with one solution is its result; what is wrong with the server is raised."""
    try:
        return await scores
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
    return solution_of(solution, special_tokens)
