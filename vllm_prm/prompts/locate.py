"""The tags among a prompt's tokens: one for each step, found in the ids and never assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.prompts.tokens import Reading


def tag_ends(
    reading: Reading,
    tokenizer: Any,
    text: str,
    ids: Sequence[int],
    ends: Callable[[], Sequence[int]],
    encode: Callable[[str], list[int]],
) -> list[int]:
    """Index in `ids` of the last token of each tag that the prompt writes, in order.

    text: the whole prompt; ids: its tokens. ends(): the index in `text` just after each of those tags.
    encode: how `text` became `ids`. Raises RequestError naming the first step whose tag is no token of its own.

    Where the tag's text occurs as often as it was written, the tokens found are those. Where a step or the question
    holds it too, or a token is missing, each written tag is looked up at the end of the tokens of the text up to it.
    """
    written = ends()
    found = _occurrences(reading.tags, ids)
    if len(found) == len(written) and _count(reading, text) == len(written):
        return found
    at = []
    for number, end in enumerate(written, 1):
        prefix = encode(text[:end])
        length = len(prefix)
        if list(ids[:length]) != prefix or not _ends_with_tag(reading.tags, prefix):
            raise RequestError(_not_a_token(reading, tokenizer, ids, prefix, number, len(written)))
        at.append(length - 1)
    return at


def ends_with_tag(reading: Reading, ids: Sequence[int]) -> bool:
    return _ends_with_tag(reading.tags, ids)


def _ends_with_tag(tags: Sequence[tuple[int, ...]], ids: Sequence[int]) -> bool:
    return any(tuple(ids[-len(tag) :]) == tag for tag in tags)


def _occurrences(tags: Sequence[tuple[int, ...]], ids: Sequence[int]) -> list[int]:
    lasts = {tag[-1] for tag in tags}
    candidates = [index for index, id_ in enumerate(ids) if id_ in lasts]
    return [index for index in candidates if _ends_with_tag(tags, ids[: index + 1][-_longest(tags) :])]


def _longest(tags: Sequence[tuple[int, ...]]) -> int:
    return max(map(len, tags))


def _count(reading: Reading, text: str) -> int:
    """How often any of the tags is written in the text, however it is spaced."""
    return sum(text.count(mark) for mark in {mark.strip() or mark for mark in reading.marks})


def _not_a_token(
    reading: Reading, tokenizer: Any, ids: Sequence[int], prefix: Sequence[int], number: int, steps: int
) -> str:
    same = next((i for i, (a, b) in enumerate(zip(ids, prefix, strict=False)) if a != b), min(len(ids), len(prefix)))
    around = list(ids[max(0, same - 4) : same + 4])
    pieces = list(map(str, tokenizer.convert_ids_to_tokens(around)))
    expected = " or ".join(str(list(tag)) for tag in reading.tags)
    return (
        f"the tag {reading.tag!r} after step {number} of {steps} is not the step tag {expected} in the prompt's "
        f"tokens, so this step would have no score; the tokens there are {around}, {pieces}. The text beside the tag "
        "has merged with it: change how that step ends or how the next one begins, or write the tag in the recipe's "
        "prompt section as the tokenizer needs it (a leading space, a separator after it)"
    )
