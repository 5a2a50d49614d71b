"""Conversations through the tokenizer's own chat template, and where a turn's text stands in what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vllm_prm.errors import RecipeError
from vllm_prm.prompts.tokens import Reading

Message = Mapping[str, str]


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def opening(reading: Reading) -> list[Message]:
    return [] if reading.form.system is None else [turn("system", reading.form.system)]


def render(reading: Reading, tokenizer: Any, messages: Sequence[Message], generate: bool = False) -> str:
    """The conversation as text, with its own special tokens (encode it without adding any). Raises RecipeError."""
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generate)
    except Exception as error:  # noqa: BLE001 - a template raises whatever its author chose
        raise RecipeError(
            f"recipe {reading.recipe.name!r} writes a chat, but this tokenizer's chat template cannot "
            f"({type(error).__name__}: {error}). Serve the tokenizer that came with the model, its chat template "
            "included, or give the recipe a prompt section of kind 'raw'"
        ) from error


def places(
    reading: Reading, text: str, messages: Sequence[Message], marks: Iterable[tuple[int, Sequence[int]]]
) -> list[int]:
    """Indices into `text`, the rendered messages, of ends inside turns: (index of the message, ends in its content).

    Templates may trim a turn. Raises RecipeError if one is not there, or a mark was trimmed off it.
    """
    wanted = dict(marks)
    found, cursor = [], 0
    for index, message in enumerate(messages):
        content = message["content"]
        kept = content.strip()
        trimmed = len(content) - len(content.lstrip())
        start = text.find(kept, cursor)
        length = len(kept)
        if start >= 0 and text.startswith(content, start - trimmed) and start >= trimmed:
            start, trimmed, length = start - trimmed, 0, len(content)
        for end in wanted.get(index, ()):
            if start < 0 or end - trimmed > length:
                raise RecipeError(
                    f"recipe {reading.recipe.name!r}: this tokenizer's chat template changes the turn {content!r:.80}, "
                    "so the tags in it cannot be found; serve the chat template that came with the model"
                )
            found.append(start + end - trimmed)
        if start >= 0:
            cursor = start + length
    return found
