"""A recipe against one tokenizer: ids of its tags, texts of its tokens, and how to encode a prompt as in training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vllm_prm.errors import RecipeError
from vllm_prm.prompts.texts import piece_text, prompt_format
from vllm_prm.recipes import PromptFormat, Recipe


@dataclass(frozen=True)
class Reading:
    """What is looked up once for a recipe and a tokenizer (`get_vocab` of 128,000 entries takes a tenth of a second).

    tags: ids of each tag sequence. marks: the text that each stands for.
    tag: the tag as prompts write it. separator: what comes between it and the next step.
    labels: the text of each scoring token; empty where those are no tokens.
    bos, lead: what whole texts need in front to be tokenized as in training.
    """

    recipe: Recipe
    form: PromptFormat
    tags: tuple[tuple[int, ...], ...]
    marks: tuple[str, ...]
    tag: str
    separator: str
    labels: tuple[str, ...]
    bos: tuple[int, ...] | None
    lead: str


@lru_cache(maxsize=16)  # a process serves one tokenizer with one recipe; tests more
def reading(recipe: Recipe, tokenizer: Any) -> Reading:
    """Raises RecipeError if the tokenizer does not have the recipe's tokens or splits its probe in no known way."""
    form = prompt_format(recipe)
    vocabulary = tokenizer.get_vocab()
    tags = tuple(
        tuple(_id(recipe, "step tag", piece, id_, vocabulary) for piece, id_ in zip(tag.pieces, tag.ids, strict=True))
        for tag in recipe.step_tag
    )
    marks = tuple(piece_text("".join(map(str, tokenizer.convert_ids_to_tokens(list(tag))))) for tag in tags)
    written = form.tag if form.tag is not None else marks[0]
    separator = form.separator
    if separator is None:
        separator = "" if written.endswith("\n") else "\n"
    labels: tuple[str, ...] = ()
    if recipe.head == "lm_head":
        ids = [_id(recipe, f"{t.label!r} token", t.piece, t.id, vocabulary) for t in recipe.scoring_tokens]
        labels = tuple(piece_text(str(piece)) for piece in tokenizer.convert_ids_to_tokens(ids))
    bos, lead = _beginning(recipe, tokenizer)
    return Reading(recipe, form, tags, marks, written, separator, labels, bos, lead)


def encode_text(reading: Reading, tokenizer: Any, text: str) -> list[int]:
    """A whole raw prompt as in training: special tokens as the tokenizer adds them, mended where the probe says so."""
    if reading.bos is None:
        return list(tokenizer.encode(text))
    return [*reading.bos, *tokenizer.encode(reading.lead + text, add_special_tokens=False)]


def encode_part(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that brings its own special tokens, or of a part of a prompt."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def _id(recipe: Recipe, what: str, piece: str | None, expected: int | None, vocabulary: dict[str, int]) -> int:
    found = expected if piece is None else vocabulary.get(piece)
    if found is None or (expected is not None and found != expected):
        raise RecipeError(
            f"recipe {recipe.name!r}: its {what} {piece!r} is "
            + ("not in this tokenizer's vocabulary" if found is None else f"id {found} in this tokenizer")
            + (f", expected id {expected}" if expected is not None else "")
            + "; use the tokenizer the model was trained with, or give the piece as its vocabulary spells it"
        )
    return found


def _beginning(recipe: Recipe, tokenizer: Any) -> tuple[tuple[int, ...] | None, str]:
    """(None, "") if the tokenizer splits the probe as in training, else the BOS and the lead that mend it.

    transformers 5 reads a folder that has only `tokenizer.model` without BOS and without the space that sentencepiece
    puts before the first word.
    """
    if recipe.probe is None:
        return None, ""
    expected = list(recipe.probe.ids)
    if list(tokenizer.encode(recipe.probe.text)) == expected:
        return None, ""
    for bos in ((), tuple(expected[:1])):
        for lead in ("", " "):
            if [*bos, *encode_part(tokenizer, lead + recipe.probe.text)] == expected:
                return bos, lead
    raise RecipeError(
        f"recipe {recipe.name!r} says that {recipe.probe.text!r} is tokenized as {expected}, but this tokenizer makes "
        f"{list(tokenizer.encode(recipe.probe.text))} of it, and neither a BOS nor a leading space mends that; "
        "use the tokenizer the model was trained with, or correct the recipe's probe"
    )
