"""Where the answer of a model that is asked begins, and which token it begins with: by the model's own chat template.

For recipes whose prompt is of kind "judge". Everything is found by rendering conversations and tokenizing them, and
nothing is known of any template: what an answer looks like is what the template writes when it opens one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm_prm.errors import RecipeError
from vllm_prm.recipes.tokens import ScoringToken
from vllm_prm.recipes.types import Recipe

Message = Mapping[str, Any]  # role, and content: text, or parts where a template writes images

# Contents of a conversation that is rendered to see what stands around them; no template holds them.
_USER = ("the first thing that is asked", "the second thing that is asked", "the last thing that is asked")


_RAW = "give the recipe a prompt section of kind 'raw'"


@dataclass(frozen=True)
class AnswerPlace:
    """What a chat template writes around answers.

    opening: the text from the end of a user's turn to where the answer begins. in_one_chat: whether several answers can
    stand in one conversation and be read there as they would be given.
    """

    opening: str
    in_one_chat: bool


def turn(role: str, content: Any) -> Message:
    return {"role": role, "content": content}


def rendered(recipe: Recipe, tokenizer: Any, messages: Sequence[Message], begin_answer: bool) -> str:
    """A conversation as text, with its own special tokens (encode it without adding any).

    begin_answer: open the assistant's next turn. Raises RecipeError if the template cannot write it.
    """
    # A judge is read at its answer's first token, so it must not think first; templates that know no such thing do not
    # look (Qwen 3, SmolLM3 and GLM 4.5 call it enable_thinking, DeepSeek V3.1 thinking).
    is_judge = recipe.prompt_format.kind == "judge"
    more = {"enable_thinking": False, "thinking": False} if is_judge else {}
    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=begin_answer, **more
        )
    except Exception as error:  # noqa: BLE001 - a template raises whatever its author chose
        raise RecipeError(
            f"recipe {recipe.name!r} writes a chat, but this tokenizer's chat template cannot "
            f"({type(error).__name__}: {error}). Serve the tokenizer that came with the model, its chat template "
            f"included, or {'use an instruct model, which has one' if is_judge else _RAW}"
        ) from error
    return text


def answer_place(recipe: Recipe, tokenizer: Any) -> AnswerPlace:
    """Raises RecipeError if this template opens no answer, or writes no conversation as the recipe wants it."""
    word = _history_word(recipe)
    asked = _opening_turns(recipe, _USER[0])
    begun = rendered(recipe, tokenizer, asked, begin_answer=True)
    before, _, opening = begun.rpartition(_USER[0])
    if not before and not opening:
        raise RecipeError(
            f"recipe {recipe.name!r}: this tokenizer's chat template leaves the user's turn out: {begun!r}"
        )
    answered = _answered(recipe, tokenizer, word) or ""
    if answered.startswith(begun) and not answered[len(begun) :].lstrip().startswith(word):
        raise RecipeError(
            f"recipe {recipe.name!r} reads where the model's answer begins, but this tokenizer's chat template writes "
            f"{answered[len(begun) :]!r:.80} there and opens no answer of its own; serve a chat template that looks at "
            "add_generation_prompt"
        )
    chats = recipe.prompt_format.chats
    if chats == "per step":
        return AnswerPlace(opening, in_one_chat=False)
    obstacle = _obstacle(recipe, tokenizer, word, opening)
    if obstacle is not None and chats == "one":
        raise RecipeError(
            f"recipe {recipe.name!r} asks about all steps in one chat, which this tokenizer's chat template does not "
            f"allow: {obstacle}. Leave prompt.chats out, or make it 'per step'"
        )
    return AnswerPlace(opening, in_one_chat=obstacle is None)


def answer_token(recipe: Recipe, token: ScoringToken, place: AnswerPlace, tokenizer: Any) -> int:
    """The token that an answer with one of these words begins with, and ends with: the first word that is one token.

    Raises RecipeError if none of them is.
    """
    begun = rendered(recipe, tokenizer, _opening_turns(recipe, _USER[0]), begin_answer=True)
    before = list(tokenizer.encode(begun, add_special_tokens=False))
    splits = []
    for word in token.words:
        for text in _as_answers(recipe, tokenizer, begun, word):
            token_ids = list(tokenizer.encode(text, add_special_tokens=False))
            rest = token_ids[len(before) :]
            if token_ids[: len(before)] == before and len(rest) == 1:
                return rest[0]
            merges = token_ids[: len(before)] != before
        pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(token_ids[len(before) - merges :])]
        splits.append(f"{word!r} {'merges with the text before it, as' if merges else 'is'} {pieces}")
    raise RecipeError(
        f"recipe {recipe.name!r}: no word for its {token.label!r} token is a single token where an answer of this "
        f"model begins ({'; '.join(splits)}). Give other words for it, for example "
        f'{{"base": "judge", "scoring_tokens": {{"{token.label}": {{"words": ["A"]}}}}}}, and ask for them in '
        "prompt.step"
    )


def _as_answers(recipe: Recipe, tokenizer: Any, begun: str, word: str) -> list[str]:
    """The conversation up to the end of this answer: as the template writes one that was given, and as it goes on."""
    given = _answered(recipe, tokenizer, word) or ""
    end = given.find(word.strip(), len(begun)) + len(word.strip())
    return [given[:end], begun + word] if given.startswith(begun) and end > len(begun) else [begun + word]


def _answered(recipe: Recipe, tokenizer: Any, word: str) -> str | None:
    """A conversation with this answer; None if the template takes no answers."""
    turns = [*_opening_turns(recipe, _USER[0]), turn("assistant", word)]
    try:
        return rendered(recipe, tokenizer, turns, begin_answer=False)
    except RecipeError:
        return None


def _obstacle(recipe: Recipe, tokenizer: Any, word: str, opening: str) -> str | None:
    """Why answers cannot stand in one conversation; None if they can."""
    turns = _opening_turns(recipe, _USER[0])
    for content in _USER[1:]:
        turns += [turn("assistant", word), turn("user", content)]
    try:
        text = rendered(recipe, tokenizer, turns, begin_answer=True)
    except RecipeError as error:
        return str(error.__cause__)
    for content in _USER:
        _, found, text = text.partition(content)
        if not found or not text.startswith(opening):
            return f"where an answer begins it writes {opening!r}, but {text[: len(opening)]!r} in front of a past one"
        text = text.removeprefix(opening)
        if content != _USER[-1] and not text.lstrip().startswith(word):
            return f"a past answer {word!r} becomes {text[:40]!r}"
    return None if not text else f"it writes {text[:40]!r} after the opening of an answer"


def _opening_turns(recipe: Recipe, content: str) -> list[Message]:
    system = recipe.prompt_format.system
    return [*([] if system is None else [turn("system", system)]), turn("user", content)]


def _history_word(recipe: Recipe) -> str:
    """What stands as the answer in a conversation that is rendered for its form only."""
    return next((word.strip() for token in recipe.scoring_tokens for word in token.words), "Yes")
