"""Conversations through the tokenizer's own chat template, and where a turn's text stands in what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vllm_prm.errors import RecipeError
from vllm_prm.prompts.pictures import texts_in
from vllm_prm.recipes.answers import Message, rendered, turn
from vllm_prm.recipes.binding import BoundRecipe

__all__ = ["Message", "ends_in_text", "render", "turn"]


def render(recipe: BoundRecipe, messages: Sequence[Message], begin_answer: bool = False) -> str:
    """See `recipes.answers.rendered`."""
    return rendered(recipe.recipe, recipe.tokenizer, messages, begin_answer)


def ends_in_text(
    recipe: BoundRecipe, text: str, messages: Sequence[Message], ends: Mapping[int, Sequence[int]]
) -> tuple[int, ...]:
    """Indices into `text`, the rendered messages, of indices into turns.

    ends: by index of the message, whose content is text, ascending indices into it. Templates may trim a turn. Raises
    RecipeError if a turn is not in the text, or one of its ends was trimmed off.
    """
    text_ends: list[int] = []
    cursor = 0
    for index, message in enumerate(messages):
        asked = ends.get(index, ())
        for content in texts_in(message["content"]):
            start, trimmed, length = _placed(text, content, cursor)
            if asked:
                if start < 0 or asked[-1] - trimmed > length:
                    raise RecipeError(
                        f"recipe {recipe.recipe.name!r}: this tokenizer's chat template changes the turn "
                        f"{content!r:.80}, so the tags in it cannot be found; serve the chat template that came with "
                        "the model"
                    )
                text_ends += [start + end - trimmed for end in asked]
            if start >= 0:
                cursor = start + length
    return tuple(text_ends)


def _placed(text: str, content: str, cursor: int) -> tuple[int, int, int]:
    """Where a turn stands in the text from `cursor` on (-1: nowhere), characters trimmed off its front, its length."""
    core = content.strip()
    start = text.find(core, cursor)
    length = len(core)
    if length == len(content):
        return start, 0, length
    trimmed = len(content) - len(content.lstrip())
    if start >= trimmed and text.startswith(content, start - trimmed):  # the template trims nothing
        return start - trimmed, 0, len(content)
    return start, trimmed, length
