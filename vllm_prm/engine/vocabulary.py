"""Pieces, ids and probes against the tokenizer that is served.

Done once at start-up. A recipe whose pieces are not what the vocabulary says stops the server; a tokenizer that
splits the recipe's probe otherwise than in training is reported with both lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_prm.engine.settings import StepSettings, check_ids
from vllm_prm.errors import RecipeError, RequestError
from vllm_prm.recipes import Recipe

if TYPE_CHECKING:
    from vllm.config import ModelConfig

_SPACE = "▁Ġ"  # how sentencepiece (▁) and byte-level BPE (Ġ) write a leading space in a piece


def recipe_settings(recipe: Recipe, tokenizer: Any, model_config: ModelConfig) -> StepSettings:
    """The recipe's pieces as ids of this vocabulary. Raises RecipeError naming piece, found and expected id."""
    vocabulary = tokenizer.get_vocab()
    tags = tuple(
        tuple(
            _resolve(recipe, "step tag", piece, id_, vocabulary, tokenizer)
            for piece, id_ in zip(tag.pieces, tag.ids, strict=True)
        )
        for tag in recipe.step_tag
    )
    ids = tuple(
        _resolve(recipe, f"{token.label!r} token", token.piece, token.id, vocabulary, tokenizer)
        for token in recipe.scoring_tokens
    )
    try:
        for tag in tags:
            for id_ in tag:
                check_ids(model_config, id_, None)
        if recipe.head == "lm_head":
            check_ids(model_config, None, ids)
    except RequestError as error:
        raise RecipeError(f"recipe {recipe.name!r} does not fit the model: {error}") from error
    return StepSettings(tags, ids, recipe.weights, recipe.offset, recipe.head, recipe.activation)


def _resolve(
    recipe: Recipe, what: str, piece: str | None, expected: int | None, vocabulary: dict[str, int], tokenizer: Any
) -> int:
    if piece is None:
        assert expected is not None  # Recipe sees to it that one of the two is there
        return expected
    found = vocabulary.get(piece)
    if found is None:
        split = list(tokenizer.encode(piece, add_special_tokens=False))
        raise RecipeError(
            f"recipe {recipe.name!r} needs its {what} {piece!r} to be one token, but the served tokenizer has no "
            f"such piece and splits that text into {len(split)} tokens, {split}"
            + (f" (expected id {expected})" if expected is not None else "")
            + ". Give the piece as the vocabulary spells it (a leading space is ▁ or Ġ), "
            "or serve the tokenizer the model was trained with."
        )
    if expected is not None and found != expected:
        raise RecipeError(
            f"recipe {recipe.name!r}: {what} {piece!r} has id {found} in the served tokenizer, expected {expected}. "
            "This is not the tokenizer the recipe was written for: check --tokenizer and the model folder, "
            "or drop the id from the recipe if the vocabulary was renumbered on purpose."
        )
    return found


def probe_complaint(recipe: Recipe, tokenizer: Any) -> str | None:
    """What to report if the tokenizer splits the recipe's probe otherwise than in training; None if it does not."""
    if recipe.probe is None:
        return None
    found, expected = list(tokenizer.encode(recipe.probe.text)), list(recipe.probe.ids)
    if found == expected:
        return None
    return (
        f"The served tokenizer splits {recipe.probe.text!r} into {found}, but recipe {recipe.name!r} expects "
        f"{expected}: texts are tokenized otherwise than in training, so scores of text prompts will be off. "
        "Send token ids made by the original tokenizer, or serve a tokenizer.json that agrees with it. (A folder "
        "with only tokenizer.model, read by transformers 5, loses BOS and the leading space of the first word.)"
    )


def glued_ids(step_tag_id: int, tokenizer: Any) -> tuple[int, ...]:
    """Ids that look like the step tag but are not it: the same text without its leading space.

    A tag written right after a word (`day.ки`) becomes such a token, and its step silently has no score.
    """
    piece = tokenizer.convert_ids_to_tokens(step_tag_id)
    if not piece or piece[0] not in _SPACE or len(piece) == 1:
        return ()
    twin = tokenizer.get_vocab().get(piece[1:])
    return () if twin is None or twin == step_tag_id else (twin,)
