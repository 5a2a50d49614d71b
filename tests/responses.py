"""Responses as a server of ours sends them, for servers without a model."""

from __future__ import annotations

from typing import Any

from vllm_prm.recipes import Recipe
from vllm_prm.scores import StepScores
from vllm_prm.wire import CachedTokens, ErrorInfo, Failure, RecipeResponse, Score, ScoreResponse, Usage


def recipe_response(recipe: Recipe) -> dict:
    return RecipeResponse(
        model="fake-prm",
        max_model_len=8192,
        labels=list(recipe.labels),
        scoring_token_ids=[token.id or 0 for token in recipe.scoring_tokens],
        weights=list(recipe.weights),
        step_tag_ids=[[1]],
        aggregation=recipe.aggregation,
        recipe=recipe.to_dict(),
    ).model_dump()


def solutions_of(body: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(question, steps) of each solution that a request asks about, in whichever form."""
    if "inputs" in body:
        return [(item["question"], item["steps"]) for item in body["inputs"]]
    return [(body["question"], steps) for steps in body.get("candidates", [body.get("steps")])]


def refused(message: str, code: int = 400) -> ErrorInfo:
    return ErrorInfo(message=message, type="BadRequestError" if code < 500 else "InternalServerError", code=code)


def score_response(*results: StepScores | ErrorInfo) -> dict:
    """To a request for these solutions, with their logits."""
    scores = [result for result in results if isinstance(result, StepScores)]
    tokens = sum(result.num_prompt_tokens for result in scores)
    cached = CachedTokens(cached_tokens=sum(result.num_cached_tokens for result in scores))
    return ScoreResponse(
        id="prm-1",
        object="list",
        created=1,
        model="fake-prm",
        aggregate=scores[0].aggregation if scores else "min",
        data=[_entry(index, result) for index, result in enumerate(results)],
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens, prompt_tokens_details=cached),
    ).model_dump(exclude_unset=True)


def _entry(index: int, result: StepScores | ErrorInfo) -> Score | Failure:
    if isinstance(result, ErrorInfo):
        return Failure(index=index, object="error", error=result)
    return Score(
        index=index,
        object="prm.score",
        step_scores=list(result.step_scores),
        score=result.aggregate(),
        first_error=result.first_error(),
        logits=[list(row) for row in result.logits],
        num_prompt_tokens=result.num_prompt_tokens,
        num_cached_tokens=result.num_cached_tokens,
    )
