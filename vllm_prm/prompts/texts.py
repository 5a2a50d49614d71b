"""A question and its steps as texts: cut out of a solution, stripped, put into a recipe's templates. No tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from vllm_prm.errors import RequestError
from vllm_prm.inputs import checked_text
from vllm_prm.prompts.pictures import Content, between, stripped_content
from vllm_prm.recipes import PromptFormat, Recipe
from vllm_prm.recipes.pieces import piece_text


def stripped(question: Content, steps: list[str], prompt_format: PromptFormat) -> tuple[Content, list[str]]:
    """Without the white space at both ends that the recipe says to take off."""
    steps = steps if prompt_format.strip == "none" else [step.strip() for step in steps]
    return stripped_content(question) if prompt_format.strip == "all" else question, steps


def fill_question(prompt_format: PromptFormat, question: Content) -> Content:
    before, after = prompt_format.question.replace("{rubric}", prompt_format.rubric).split("{question}")
    return between(before, question, after)


def fill_steps(prompt_format: PromptFormat, steps: Sequence[str], is_asked: bool = True) -> list[str]:
    """A solution's steps, from its first one on, as the prompt writes them, without tags.

    is_asked: with what the template writes after a step, which is the question about it where the model is asked.
    """
    before, after = prompt_format.step.replace("{rubric}", prompt_format.rubric).split("{step}")
    after = after if is_asked else ""
    numbered = _numbered(before)
    written = []
    for number, step in enumerate(steps, 1):
        start = "" if numbered is not None and numbered.match(step) else before.replace("{k}", str(number))
        written.append(start + step + after.replace("{k}", str(number)))
    return written


@lru_cache(maxsize=64)
def _numbered(before: str) -> re.Pattern[str] | None:
    """What a step that is already numbered begins with; None if the template does not number steps."""
    if "{k}" not in before:
        return None
    return re.compile(r"\s*" + r"\d+".join(map(re.escape, before.rstrip().split("{k}"))))


def split_steps(text: str, recipe: Recipe) -> list[str]:
    """A solution's text cut into steps, without tags and empty pieces; at the first separator that occurs in it.

    The separators are the recipe's own (`prompt.split`), or else the tag, a blank line, a newline. Raises
    RequestError if `text` is not text or holds no step.
    """
    checked_text(text, "the solution")
    separators = recipe.prompt_format.split or (*_tag_texts(recipe), "\n\n", "\n")
    separator = next((separator for separator in separators if separator in text), separators[-1])
    steps = [step for part in text.split(separator) if (step := part.strip())]
    if not steps:
        raise RequestError(f"there is no step in {text!r:.80}; give at least one")
    return steps


def _tag_texts(recipe: Recipe) -> list[str]:
    """The tag, bare (` ки` also ends a step where it is glued or on a line of its own)."""
    prompt_format = recipe.prompt_format
    if prompt_format.kind not in ("raw", "segments", "chat"):
        return []  # in the other kinds the tag is a label that no solution holds
    if prompt_format.tag:
        texts = [prompt_format.tag]
    else:
        texts = [tag.text or piece_text("".join(filter(None, tag.pieces))) for tag in recipe.step_tag]
    return [text.strip() or text for text in texts if text]
