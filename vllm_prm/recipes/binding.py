"""A recipe against one tokenizer, resolved once: start-up, doctor and prompts all ask the same BoundRecipe.

A recipe names tokens by vocabulary piece; a tokenizer says which ids those are and how it splits texts. Where the two
do not fit, `bind` refuses with a RecipeError, always the same one. Nothing here knows vLLM: a tokenizer is anything
with `get_vocab`, `encode`, `convert_ids_to_tokens` and `bos_token_id`, of transformers or of vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vllm_prm.errors import RecipeError
from vllm_prm.recipes.answers import AnswerPlace, answer_place, answer_token
from vllm_prm.recipes.pieces import SPACE_MARKS, piece_text
from vllm_prm.recipes.prompt import PromptFormat
from vllm_prm.recipes.tokens import ScoringToken, StepTag
from vllm_prm.recipes.types import Recipe


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe, a tokenizer, and what the one says in terms of the other.

    step_tags: token ids of each step tag; any of them ends a step. Empty if a step ends with its own last token.
    step_tag_texts: the text that each of them stands for.
    scoring_ids: [scoring tokens], rows of the output head; for a head of the model's own, columns of its output.
    scoring_texts: the text of each scoring token; empty for a head of the model's own.
    tag: the tag's text as prompts write it; of a judge, the answer that counts most.
    separator: what prompts write between a tag and the next step.
    bos, lead: ids and text that a whole text needs in front to be tokenized as in training; bos is None where the
        tokenizer does so by itself.
    answers: of a judge: where its answers begin.
    notice: what to tell whoever sends whole texts; None if the tokenizer splits the recipe's probe as in training.
    """

    recipe: Recipe
    tokenizer: Any
    step_tags: tuple[tuple[int, ...], ...]
    step_tag_texts: tuple[str, ...]
    scoring_ids: tuple[int, ...]
    scoring_texts: tuple[str, ...]
    tag: str
    separator: str
    bos: tuple[int, ...] | None
    lead: str
    notice: str | None
    answers: AnswerPlace | None = None

    @property
    def prompt_format(self) -> PromptFormat:
        return self.recipe.prompt_format

    def encode_text(self, text: str) -> list[int]:
        """Ids of a whole text as in training: with the special tokens that the tokenizer adds, mended by the probe."""
        if self.bos is None:
            return list(self.tokenizer.encode(text))
        return [*self.bos, *self.tokenizer.encode(self.lead + text, add_special_tokens=False)]

    def encode_part(self, text: str) -> list[int]:
        """Ids of a text that brings its own special tokens, or of a part of a prompt."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=16)  # a process serves one tokenizer with one recipe; tests more. `get_vocab` takes 0.1 s
def bind(recipe: Recipe, tokenizer: Any) -> BoundRecipe:
    """Raises RecipeError if the tokenizer does not have the recipe's tokens, or splits its probe in no known way."""
    vocabulary = tokenizer.get_vocab()
    step_tags = tuple(_tag_ids(recipe, tag, vocabulary, tokenizer) for tag in recipe.step_tag)
    step_tag_texts = tuple(piece_text("".join(map(str, tokenizer.convert_ids_to_tokens(list(t))))) for t in step_tags)
    answers = answer_place(recipe, tokenizer) if recipe.prompt_format.kind == "judge" else None
    scoring_ids = tuple(_scoring_id(recipe, token, answers, vocabulary, tokenizer) for token in recipe.scoring_tokens)
    scoring_texts: tuple[str, ...] = ()
    if recipe.head == "lm_head":
        scoring_texts = tuple(piece_text(str(piece)) for piece in tokenizer.convert_ids_to_tokens(list(scoring_ids)))
    prompt_format = recipe.prompt_format
    tag = prompt_format.tag
    if answers is not None:
        tag = scoring_texts[max(range(len(scoring_ids)), key=lambda column: recipe.weights[column])].strip()
    elif tag is None:
        tag = step_tag_texts[0] if step_tag_texts else ""
    separator = prompt_format.separator
    if separator is None:
        separator = "" if tag.endswith("\n") else "\n"
    bos, lead, notice = _beginning(recipe, tokenizer)
    return BoundRecipe(
        recipe,
        tokenizer,
        step_tags,
        step_tag_texts,
        scoring_ids,
        scoring_texts,
        tag,
        separator,
        bos,
        lead,
        notice,
        answers,
    )


def glued_tag_id(step_tag_id: int, tokenizer: Any) -> int | None:
    """The token that reads like the step tag but is another one: the same text without its leading space, if any.

    A tag written right after a word (`day.ки`) becomes that token, and its step silently has no score.
    """
    piece = tokenizer.convert_ids_to_tokens(step_tag_id)
    if not piece or piece[0] not in SPACE_MARKS or len(piece) == 1:
        return None
    token_id: int | None = tokenizer.get_vocab().get(piece[1:])
    return None if token_id == step_tag_id else token_id


def _tag_ids(recipe: Recipe, tag: StepTag, vocabulary: Mapping[str, int], tokenizer: Any) -> tuple[int, ...]:
    if tag.text is not None:
        return tuple(tokenizer.encode(tag.text, add_special_tokens=False))
    return tuple(
        _token_id(recipe, "step tag", piece, expected, vocabulary, tokenizer)
        for piece, expected in zip(tag.pieces, tag.ids, strict=True)
    )


def _scoring_id(
    recipe: Recipe, token: ScoringToken, answers: AnswerPlace | None, vocabulary: Mapping[str, int], tokenizer: Any
) -> int:
    if token.words and answers is not None:
        return answer_token(recipe, token, answers, tokenizer)
    return _token_id(recipe, f"{token.label!r} token", token.piece, token.id, vocabulary, tokenizer)


def _token_id(
    recipe: Recipe, role: str, piece: str | None, expected: int | None, vocabulary: Mapping[str, int], tokenizer: Any
) -> int:
    if piece is None:
        assert expected is not None  # Recipe sees to it that one of the two is there
        return expected
    token_id = vocabulary.get(piece)
    if token_id is None:
        split = list(tokenizer.encode(piece, add_special_tokens=False))
        raise RecipeError(
            f"recipe {recipe.name!r} needs its {role} {piece!r} to be one token, but the served tokenizer has no "
            f"such piece and splits that text into {len(split)} tokens, {split}"
            + (f" (expected id {expected})" if expected is not None else "")
            + ". Give the piece as the vocabulary spells it (a leading space is ▁ or Ġ), "
            "or serve the tokenizer the model was trained with."
        )
    if expected is not None and token_id != expected:
        raise RecipeError(
            f"recipe {recipe.name!r}: {role} {piece!r} has id {token_id} in the served tokenizer, expected {expected}. "
            "This is not the tokenizer the recipe was written for: check --tokenizer and the model folder, "
            "or drop the id from the recipe if the vocabulary was renumbered on purpose."
        )
    return token_id


def _beginning(recipe: Recipe, tokenizer: Any) -> tuple[tuple[int, ...] | None, str, str | None]:
    """(bos, lead, notice) of BoundRecipe.

    transformers 5 reads a folder that has only `tokenizer.model` without BOS and without the space that sentencepiece
    puts before the first word; both can be put back.
    """
    if recipe.probe is None:
        return None, "", None
    text, expected = recipe.probe.text, list(recipe.probe.ids)
    split = list(tokenizer.encode(text))
    if split == expected:
        return None, "", None
    for bos in ((), tuple(expected[:1])):
        for lead in ("", " "):
            if [*bos, *tokenizer.encode(lead + text, add_special_tokens=False)] == expected:
                return bos, lead, _notice(recipe, split)
    raise RecipeError(
        f"recipe {recipe.name!r} says that {text!r} is tokenized as {expected}, but this tokenizer makes {split} of "
        "it, and neither a BOS nor a leading space mends that; use the tokenizer the model was trained with, or "
        "correct the recipe's probe (leave it out if the tokenizer was changed on purpose)"
    )


def _notice(recipe: Recipe, split: list[int]) -> str:
    assert recipe.probe is not None
    return (
        f"The served tokenizer splits {recipe.probe.text!r} into {split}, but recipe {recipe.name!r} expects "
        f"{list(recipe.probe.ids)}: whole texts (/v1/embeddings, LLM.encode) are tokenized otherwise than in training, "
        "so their scores will be off. Prompts made of a question and its steps (/v1/prm/score, PRM, PRMClient) are "
        "tokenized right. Send those, or token ids made by the original tokenizer, or serve a tokenizer.json that "
        "agrees with it. (A folder with only tokenizer.model, read by transformers 5, loses BOS and the leading space "
        "of the first word.)"
    )
