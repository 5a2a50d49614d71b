"""The tags among a prompt's tokens: one for each that was written, found in the ids and never assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vllm_prm.errors import RequestError
from vllm_prm.prompts.encoding import Encoded
from vllm_prm.recipes.binding import BoundRecipe


@dataclass(frozen=True)
class Tokenized:
    """token_ids: of the whole prompt. tag_positions: of the last token of each tag that it writes, ascending."""

    token_ids: list[int]
    tag_positions: list[int]


def last_tokens_of_tags(
    recipe: BoundRecipe, encoded: Encoded, tag_ends: Sequence[int], step_of: Callable[[int], str]
) -> Tokenized:
    """Find the tags that a tokenized text writes.

    tag_ends: indices into the text just after each of those tags. step_of: whose tag one of them is, by its index
    ("step 1 of 3"), for messages. Raises RequestError naming the first step whose tag is no token of its own.

    Where the tag's text occurs as often as it was written, the tokens found are those. Where a step or the question
    holds it too, or a token is missing, each written tag is looked up at the end of the tokens of the text up to it.
    """
    text, token_ids = encoded.text, encoded.token_ids
    if _times_written(recipe, text) == len(tag_ends):
        occurrences = _occurrences(recipe.step_tags, token_ids)
        if len(occurrences) == len(tag_ends):
            encoded.remember(recipe, tag_ends[-1], {})
            return Tokenized(token_ids, occurrences)
    tag_positions = []
    single = {tag[0] for tag in recipe.step_tags if len(tag) == 1}  # nearly all are: looked up, they need no slice
    for tag, (end, count) in enumerate(zip(tag_ends, encoded.counts_before(recipe, tag_ends), strict=True)):
        if count is None or (
            token_ids[count - 1] not in single and not _ends_in_tag(recipe.step_tags, token_ids, count)
        ):
            raise RequestError(_not_a_token(recipe, token_ids, encoded.beginning(recipe, end), step_of(tag)))
        tag_positions.append(count - 1)
    counts = {end: position + 1 for end, position in zip(tag_ends, tag_positions, strict=True)}
    encoded.remember(recipe, tag_ends[-1], counts)
    return Tokenized(token_ids, tag_positions)


def positions_of_tags(recipe: BoundRecipe, token_ids: list[int]) -> list[int]:
    """Where a prompt that is tokens already is read, ascending: at each of its step tags, by the recipe's offset."""
    return [last + recipe.recipe.offset for last in _occurrences(recipe.step_tags, token_ids)]


def _ends_in_tag(tags: Sequence[tuple[int, ...]], token_ids: list[int], count: int) -> bool:
    """Whether the first `count` tokens end with a step tag."""
    return any(tuple(token_ids[max(0, count - len(tag)) : count]) == tag for tag in tags)


def _occurrences(tags: Sequence[tuple[int, ...]], token_ids: list[int]) -> list[int]:
    """Positions of the last token of every tag, ascending."""
    positions: set[int] = set()
    for tag in tags:
        position = len(tag) - 2
        with suppress(ValueError):  # no more of them
            while True:
                position = token_ids.index(tag[-1], position + 1)
                if len(tag) == 1 or tuple(token_ids[position + 1 - len(tag) : position + 1]) == tag:
                    positions.add(position)
    return sorted(positions)


def _times_written(recipe: BoundRecipe, text: str) -> int:
    """How often any of the tags is written in the text, however it is spaced."""
    return sum(text.count(tag) for tag in {tag.strip() or tag for tag in recipe.step_tag_texts})


def _not_a_token(recipe: BoundRecipe, token_ids: list[int], beginning: list[int], step: str) -> str:
    pairs = enumerate(zip(token_ids, beginning, strict=False))
    differs = next((i for i, (a, b) in pairs if a != b), min(len(token_ids), len(beginning)))
    around = token_ids[max(0, differs - 4) : differs + 4]
    pieces = list(map(str, recipe.tokenizer.convert_ids_to_tokens(around)))
    expected = " or ".join(str(list(tag)) for tag in recipe.step_tags)
    return (
        f"the tag {recipe.tag!r} after {step} is not the step tag {expected} in the prompt's tokens, so this step "
        f"would have no score; the tokens there are {around}, {pieces}. The text beside the tag has merged with it: "
        "change how that step ends or how the next one begins, or write the tag in the recipe's prompt section as the "
        "tokenizer needs it (a leading space, a separator after it)"
    )
