"""Responses as a server of ours sends them, for servers without a model."""

from __future__ import annotations

from vllm_prm.recipes import Recipe
from vllm_prm.scores import StepScores
from vllm_prm.wire import CachedTokens, RecipeResponse, Score, ScoreResponse, Usage


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


def score_response(scores: StepScores) -> dict:
    """To a request for one solution, with its logits."""
    entry = Score(
        index=0,
        object="prm.score",
        step_scores=list(scores.step_scores),
        score=scores.aggregate(),
        first_error=scores.first_error(),
        logits=[list(row) for row in scores.logits],
        num_prompt_tokens=scores.num_prompt_tokens,
        num_cached_tokens=scores.num_cached_tokens,
    )
    tokens, cached = scores.num_prompt_tokens, CachedTokens(cached_tokens=scores.num_cached_tokens)
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens, prompt_tokens_details=cached)
    return ScoreResponse(
        id="prm-1",
        object="list",
        created=1,
        model="fake-prm",
        aggregate=scores.aggregation,
        data=[entry],
        usage=usage,
    ).model_dump(exclude_unset=True)
