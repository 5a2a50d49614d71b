"""From a prompt as text to a prompt as tokens, with one verified position for each tag that it writes.

A draft is a prompt before it is tokenized, and knows where its tags are. Nothing is assumed about tokens: a tag that
the tokenizer merged with the text beside it is refused, naming the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vllm_prm.errors import RecipeError, RequestError
from vllm_prm.prompts.tags import Tokenized, last_tokens_of_tags
from vllm_prm.recipes.binding import BoundRecipe


@dataclass(frozen=True)
class Prompt:
    """token_ids: the whole prompt. positions: indices into it, ascending, of the tokens whose logits are read."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


class Draft(Protocol):
    """A prompt before it is tokenized. step: the index of the one step it asks about; None if it asks about all."""

    @property
    def step(self) -> int | None: ...

    def tokenized(self, recipe: BoundRecipe, num_steps: int) -> Tokenized: ...


@dataclass(frozen=True)
class TextDraft:
    """A prompt that is one text.

    tag_ends: indices into `text` just after each of its tags, ascending.
    is_chat: the text brings its own special tokens; otherwise the tokenizer adds them.
    """

    text: str
    tag_ends: tuple[int, ...]
    is_chat: bool
    step: int | None = None

    def tokenized(self, recipe: BoundRecipe, num_steps: int) -> Tokenized:
        encode = recipe.encode_part if self.is_chat else recipe.encode_text
        steps = range(len(self.tag_ends)) if self.step is None else [self.step] * len(self.tag_ends)
        names = [f"step {step + 1} of {num_steps}" for step in steps]
        return last_tokens_of_tags(recipe, self.text, self.tag_ends, names, encode)


@dataclass(frozen=True)
class SegmentsDraft:
    """A prompt whose question and steps are tokenized each on its own, with the tag's own ids after every step."""

    question: str
    steps: tuple[str, ...]
    step: None = None

    def tokenized(self, recipe: BoundRecipe, num_steps: int) -> Tokenized:
        bos = recipe.tokenizer.bos_token_id
        if bos is None:
            raise RecipeError(
                f"recipe {recipe.recipe.name!r} begins with BOS, and this tokenizer has none; "
                "use the tokenizer that came with the model"
            )
        token_ids = [bos, *recipe.encode_part(self.question)]
        tag_positions = []
        for step in self.steps:
            token_ids += [*recipe.encode_part(step), *recipe.step_tags[0]]
            tag_positions.append(len(token_ids) - 1)
        return Tokenized(token_ids, tag_positions)


def prompt_of(draft: Draft, recipe: BoundRecipe, num_steps: int, max_tokens: int | None) -> Prompt:
    """The draft as tokens. num_steps: of the solution, for messages. max_tokens: the longest prompt the model takes.

    Raises RequestError if the prompt is too long or a tag is no token of its own, naming the step.
    """
    tokenized = draft.tokenized(recipe, num_steps)
    length, tag_positions = len(tokenized.token_ids), tokenized.tag_positions
    if max_tokens is not None and length > max_tokens:
        late = next((index for index, position in enumerate(tag_positions) if position >= max_tokens), num_steps - 1)
        raise RequestError(
            f"the prompt has {length} tokens and the model takes {max_tokens}: step "
            f"{(late if draft.step is None else draft.step) + 1} of {num_steps} no longer fits; send fewer or shorter "
            "steps, or serve with a larger --max-model-len"
        )
    positions = tuple(position + recipe.recipe.offset for position in tag_positions)
    if positions[0] < 0:
        raise RequestError(
            f"recipe {recipe.recipe.name!r} reads the token before the tag, and the first tag has none before it"
        )
    return Prompt(tuple(tokenized.token_ids), positions)
