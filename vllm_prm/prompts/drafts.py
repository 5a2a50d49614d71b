"""From a prompt as text to a prompt as tokens, with one verified position for each tag that it writes.

A draft is a prompt before it is tokenized, and knows where its tags are. Nothing is assumed about tokens: a tag that
the tokenizer merged with the text beside it is refused, naming the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, islice
from typing import Any, Literal, Protocol

from vllm_prm.errors import PRMError, RecipeError, RequestError
from vllm_prm.prompts.encoding import Encoded, Text, encode_all, too_long
from vllm_prm.prompts.tags import Tokenized, last_tokens_of_tags
from vllm_prm.recipes.binding import BoundRecipe

# Characters that are tokenized by one call: enough for every core. What the tokenizers library keeps of them takes
# some 50 bytes each (measured).
_CHARACTERS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Prompt:
    """token_ids: the whole prompt. positions: indices into it, ascending, of the tokens whose logits are read.

    media: of a prompt with images, what an engine is handed in place of the tokens; None of one that is text.
    """

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    media: Mapping[str, Any] | None = field(default=None, compare=False)


class Draft(Protocol):
    """A prompt before it is tokenized.

    step: the index of the one step it asks about; None if it asks about all.
    texts: what is tokenized, each on its own, with the ends of the tags in it.
    is_whole: with the special tokens that the tokenizer adds.
    """

    @property
    def step(self) -> int | None: ...

    @property
    def texts(self) -> Sequence[Text]: ...

    @property
    def is_whole(self) -> bool: ...

    def tokenized(self, recipe: BoundRecipe, texts: Sequence[Encoded], num_steps: int) -> Tokenized:
        """texts: this draft's, tokenized."""
        ...


@dataclass(frozen=True)
class TextDraft:
    """A prompt that is one text.

    tag_ends: indices into `text` just after each of its tags, ascending.
    is_bare: it is tokenized as it stands, because it brings its own special tokens or needs none; otherwise the
        tokenizer adds them.
    """

    text: str
    tag_ends: tuple[int, ...]
    is_bare: bool
    step: int | None = None

    @property
    def texts(self) -> Sequence[Text]:
        return ((self.text, self.tag_ends),)

    @property
    def is_whole(self) -> bool:
        return not self.is_bare

    def tokenized(self, recipe: BoundRecipe, texts: Sequence[Encoded], num_steps: int) -> Tokenized:
        (encoded,) = texts
        return last_tokens_of_tags(recipe, encoded, self.tag_ends, lambda tag: self._step_of(tag, num_steps))

    def _step_of(self, tag: int, num_steps: int) -> str:
        return f"step {(tag if self.step is None else self.step) + 1} of {num_steps}"


@dataclass(frozen=True)
class AnswersDraft:
    """A conversation that is read where the model's answers begin, at the last token before each.

    answer_starts: indices into `text`, ascending; the last one may be its end.
    """

    text: str
    answer_starts: tuple[int, ...]
    step: int | None = None
    is_whole: Literal[False] = False

    @property
    def texts(self) -> Sequence[Text]:
        return ((self.text, self.answer_starts),)

    def tokenized(self, recipe: BoundRecipe, texts: Sequence[Encoded], num_steps: int) -> Tokenized:
        (encoded,) = texts
        counts = {}
        found = encoded.counts_before(recipe, self.answer_starts)
        for index, (start, count) in enumerate(zip(self.answer_starts, found, strict=True)):
            if count is None:
                step = index if self.step is None else self.step
                raise RequestError(
                    f"the answer about step {step + 1} of {num_steps} merges with the text before it "
                    f"({self.text[max(0, start - 20) : start + 10]!r}) in this tokenizer's tokens, so where it begins "
                    "cannot be read; make the recipe's prompt.chats 'per step'"
                )
            counts[start] = count
        encoded.remember(recipe, self.answer_starts[-1], counts)
        return Tokenized(encoded.token_ids, [count - 1 for count in counts.values()])


@dataclass(frozen=True)
class SegmentsDraft:
    """A prompt whose question and steps are tokenized each on its own, with the tag's own ids after every step.

    Without a tag, what is found is each step's own last token.
    """

    question: str
    steps: tuple[str, ...]
    step: None = None
    is_whole: Literal[False] = False

    @property
    def texts(self) -> Sequence[Text]:
        return [(text, ()) for text in (self.question, *self.steps)]

    def tokenized(self, recipe: BoundRecipe, texts: Sequence[Encoded], num_steps: int) -> Tokenized:
        bos, wanted = recipe.tokenizer.bos_token_id, recipe.prompt_format.bos
        if bos is None and wanted in (None, "required"):
            raise RecipeError(
                f"recipe {recipe.recipe.name!r} begins with BOS, and this tokenizer has none; "
                "use the tokenizer that came with the model"
            )
        question, *steps = texts
        token_ids = [*([] if bos is None or wanted == "none" else [bos]), *question.token_ids]
        tag = recipe.step_tags[0] if recipe.step_tags else ()
        tag_positions = []
        for step in steps:
            token_ids += step.token_ids
            token_ids += tag
            tag_positions.append(len(token_ids) - 1)
        return Tokenized(token_ids, tag_positions)


def prompts_of(
    drafts: Sequence[tuple[Draft, int]], recipe: BoundRecipe, max_tokens: int | None
) -> Iterator[Prompt | PRMError]:
    """Each draft as tokens, in order; in the place of one that cannot be scored, its error. Tokenized many at once.

    drafts: each with the number of its solution's steps, for messages. max_tokens: the longest prompt the model takes.
    """
    for batch in _batches(drafts):
        errors = [
            too_long(_num_characters(draft), recipe.tokenizer, max_tokens, partial(_step_at, draft, num_steps))
            for draft, num_steps in batch
        ]
        fitting = [draft for (draft, _), error in zip(batch, errors, strict=True) if error is None]
        texts = [text for draft in fitting for text in draft.texts]
        encoded = iter(encode_all(recipe, texts, batch[0][0].is_whole))  # all drafts of a recipe are of one kind
        for (draft, num_steps), error in zip(batch, errors, strict=True):
            if error is not None:
                yield error
                continue
            its_texts = list(islice(encoded, len(draft.texts)))
            try:
                yield _prompt(draft, draft.tokenized(recipe, its_texts, num_steps), recipe, num_steps, max_tokens)
            except PRMError as fault:
                yield fault


def _batches(drafts: Sequence[tuple[Draft, int]]) -> Iterator[list[tuple[Draft, int]]]:
    """At least one draft each, and as many as are tokenized at once."""
    batch: list[tuple[Draft, int]] = []
    characters = 0
    for draft, num_steps in drafts:
        batch.append((draft, num_steps))
        characters += _num_characters(draft)
        if characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _num_characters(draft: Draft) -> int:
    return sum(len(text) for text, _ in draft.texts)


def _step_at(draft: Draft, num_steps: int, character: int) -> str:
    """Which step stands at a character of its texts, all of them in a row."""
    if (step := draft.step) is None:
        ((_, ends), *segments) = draft.texts
        if segments:  # the question, and then each step
            _, *ends = accumulate(len(text) for text, _ in draft.texts)
        step = next((index for index, end in enumerate(ends) if end > character), num_steps - 1)
    return f"step {step + 1} of {num_steps}"


def _prompt(draft: Draft, tokenized: Tokenized, recipe: BoundRecipe, num_steps: int, max_tokens: int | None) -> Prompt:
    """Raises RequestError if the prompt is too long, naming the step."""
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
