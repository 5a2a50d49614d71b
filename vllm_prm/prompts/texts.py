"""What users send, as text: checked, cut into steps, put into a recipe's templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from vllm_prm.errors import RequestError
from vllm_prm.recipes import PromptFormat, Recipe

_PLAIN = PromptFormat()  # for a recipe without a prompt section


def prompt_format(recipe: Recipe) -> PromptFormat:
    return recipe.prompt or _PLAIN


def checked(question: Any, steps: Any, recipe: Recipe) -> tuple[str, list[str]]:
    """The question and the steps, stripped as the recipe says. Raises RequestError naming the step that is wrong."""
    if not isinstance(question, str):
        raise RequestError(f"question is a {type(question).__name__}, {question!r:.80}; expected text")
    if isinstance(steps, str):
        raise RequestError(
            "steps is one text; expected a list with one text for each step. "
            "vllm_prm.split_steps(text, recipe) cuts a solution into its steps"
        )
    if not isinstance(steps, Sequence):
        raise RequestError(f"steps is a {type(steps).__name__}; expected a list with one text for each step")
    if not steps:
        raise RequestError("there are no steps to score; give at least one")
    for number, step in enumerate(steps, 1):
        if not isinstance(step, str):
            raise RequestError(f"step {number} of {len(steps)} is a {type(step).__name__}, {step!r:.80}; expected text")
        if not step.strip():
            raise RequestError(
                f"step {number} of {len(steps)} is empty; leave it out, because nothing can be said about it "
                "and every later score would move by one"
            )
    strip = prompt_format(recipe).strip
    kept = [step.strip() for step in steps] if strip != "none" else list(steps)
    return (question.strip() if strip == "all" else question), kept


def fill_question(form: PromptFormat, question: str) -> str:
    return form.question.replace("{question}", question)


def fill_step(form: PromptFormat, number: int, step: str) -> str:
    """The step as the prompt writes it, without its tag; `number` counts from 1."""
    before, after = form.step.split("{step}")
    numbered = _numbered(before)
    before = "" if numbered is not None and numbered.match(step) else before.replace("{k}", str(number))
    return before + step + after.replace("{k}", str(number))


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
    if not isinstance(text, str):
        raise RequestError(f"a solution is a {type(text).__name__}, {text!r:.80}; expected text")
    form = prompt_format(recipe)
    separators = form.split or (*_tag_texts(form, recipe), "\n\n", "\n")
    for separator in separators:
        if separator in text:
            break
    steps = [step.strip() for step in text.split(separator)]
    if not any(steps):
        raise RequestError(f"there is no step in {text!r:.80}; give at least one")
    return [step for step in steps if step]


def _tag_texts(form: PromptFormat, recipe: Recipe) -> list[str]:
    """The tag, bare (` ки` also ends a step where it is glued or on a line of its own)."""
    if form.kind not in ("raw", "segments", "chat"):
        return []  # in the other kinds the tag is a label that no solution holds
    texts = [form.tag] if form.tag else [piece_text("".join(p for p in tag.pieces if p)) for tag in recipe.step_tag]
    return [text.strip() or text for text in texts if text]


def piece_text(piece: str) -> str:
    """A vocabulary piece as the text it stands for: `▁ки` and `ĠÐºÐ¸` are both ` ки`."""
    try:
        return bytes(_BYTES[letter] for letter in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return piece.replace("▁", " ")


def _byte_letters() -> dict[str, int]:
    """Byte-level BPE (GPT-2) writes a byte as a letter: itself if printable in Latin-1, else the next from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_letters()
