"""score_plan: which prompts to run for a question and its steps, and at which positions to read them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vllm_prm.errors import RecipeError, RequestError
from vllm_prm.prompts.chats import Message, opening, places, render, turn
from vllm_prm.prompts.locate import ends_with_tag, tag_ends
from vllm_prm.prompts.texts import checked, fill_question, fill_step
from vllm_prm.prompts.tokens import Reading, encode_part, encode_text, reading
from vllm_prm.recipes import Recipe

Plan = Generator[list["Prompt"], list[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Prompt:
    """token_ids: the whole prompt. positions: indices into it, ascending, of the tokens whose logits are read."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


def score_plan(
    question: str, steps: Sequence[str], recipe: Recipe, tokenizer: Any, max_tokens: int | None = None
) -> Plan:
    """Score steps without running anything: yields prompts, is sent their logits, returns a row for each step.

    Yields lists of prompts, all to be run; is sent, for each, float32 logits [positions, scoring tokens]. Returns
    float32 logits [steps, scoring tokens]. Recipes of the kinds raw, segments, chat and turns yield once, one
    prompt; judge yields a prompt for each step, once per pass; dialogue yields once per step, one prompt.

    tokenizer: of transformers, or vLLM's. max_tokens: the longest prompt the model takes.
    Raises RequestError if the question or a step cannot be scored as it is, naming the step, and RecipeError if the
    tokenizer does not fit the recipe.
    """
    question, steps = checked(question, steps, recipe)
    what = reading(recipe, tokenizer)
    builder = _Builder(what, tokenizer, max_tokens, question, list(steps))
    kind = what.form.kind
    if kind == "judge":
        return (yield from _judged(builder))
    if kind == "dialogue":
        return (yield from _dialogue(builder))
    build = {"raw": builder.raw, "segments": builder.segments, "chat": builder.chat, "turns": builder.turns}[kind]
    (rows,) = yield from _run([build()])
    return rows


def _run(prompts: list[Prompt]) -> Generator[list[Prompt], list[np.ndarray], list[np.ndarray]]:
    answers = yield prompts
    rows = [np.asarray(answer, dtype=np.float32) for answer in answers]
    expected = [len(prompt.positions) for prompt in prompts]
    found = [row.shape[0] if row.ndim == 2 else -1 for row in rows]
    if found != expected:
        raise ValueError(f"score_plan was sent rows {found} for prompts that have {expected} positions")
    return rows


def _judged(builder: _Builder) -> Plan:
    """Passes over a chat for each step; a step that a pass finds wrong is not asked further.

    Its row is that pass's worst answer, so its score is below one half, as the source counts it wrong.
    """
    recipe = builder.what.recipe
    weights = np.array(recipe.weights)
    count = len(builder.steps)
    scores: list[np.ndarray | None] = [None] * count
    filled = [""] * count
    for number, text in enumerate(builder.form.passes, 1):
        open_steps = [index for index in range(count) if scores[index] is None]
        if not open_steps:
            break
        answers = yield from _run([builder.judge(index, filled[index], text) for index in open_steps])
        for index, rows in zip(open_steps, answers, strict=True):
            chosen = rows.argmax(axis=1)
            if number == len(builder.form.passes):
                scores[index] = rows[0]
            elif not weights[chosen].all():
                shares = np.exp(rows - rows.max(axis=1, keepdims=True)).astype(np.float64)
                scores[index] = rows[((shares * weights).sum(axis=1) / shares.sum(axis=1)).argmin()]
            pieces = text.split("{tag}")
            labels = [builder.what.labels[column] for column in chosen]
            filled[index] += pieces[0] + "".join(a + b for a, b in zip(labels, pieces[1:], strict=True))
    return np.stack([row for row in scores if row is not None])


def _dialogue(builder: _Builder) -> Plan:
    """A chat in which every answer stands before the next step is asked."""
    messages = opening(builder.what)
    rows = []
    for index in range(len(builder.steps)):
        messages.append(turn("user", builder.user(index)))
        (row,) = yield from _run([builder.question_of_dialogue(index, messages)])
        rows.append(row[0])
        label = builder.what.labels[int(row[0].argmax())]
        messages.append(turn("assistant", builder.what.tag + label + builder.form.answer))
    return np.stack(rows)


class _Builder:
    """The prompts of one question and its steps."""

    def __init__(self, what: Reading, tokenizer: Any, max_tokens: int | None, question: str, steps: list[str]) -> None:
        self.what, self.form, self.tokenizer, self.max_tokens = what, what.form, tokenizer, max_tokens
        self.question = fill_question(self.form, question)
        self.steps = steps  # as given: what earlier steps are in a judge's prompt
        self.written = [fill_step(self.form, number, step) for number, step in enumerate(steps, 1)]

    def raw(self) -> Prompt:
        solution, ends = self._solution()
        text = self.question + solution
        shift = len(self.question)
        encode = partial(encode_text, self.what, self.tokenizer)
        return self._found(text, [shift + end for end in ends], encode)

    def segments(self) -> Prompt:
        bos = self.tokenizer.bos_token_id
        if bos is None:
            raise RecipeError(
                f"recipe {self.what.recipe.name!r} begins with BOS, and this tokenizer has none; "
                "use the tokenizer that came with the model"
            )
        ids = [bos, *encode_part(self.tokenizer, self.question)]
        at = []
        for step in self.written:
            ids += [*encode_part(self.tokenizer, step), *self.what.tags[0]]
            at.append(len(ids) - 1)
        return self._prompt(ids, at)

    def chat(self) -> Prompt:
        solution, ends = self._solution()
        messages = [*opening(self.what), turn("user", self.question), turn("assistant", solution)]
        return self._chat(messages, [(len(messages) - 1, ends)])

    def turns(self) -> Prompt:
        messages = opening(self.what)
        marks = []
        for index in range(len(self.steps)):
            messages.append(turn("user", self.user(index)))
            marks.append((len(messages), [len(self.what.tag)]))
            messages.append(turn("assistant", self.what.tag))
        return self._chat(messages, marks)

    def judge(self, index: int, filled: str, text: str) -> Prompt:
        """The chat that asks `text`'s tags about a step; `filled`: the passes before, with their answers."""
        said = self.what.separator.join([*self.steps[:index], self.written[index]]) + filled
        ends = []
        for piece in text.split("{tag}")[:-1]:
            said += piece + self.what.tag
            ends.append(len(said))
        said += text.split("{tag}")[-1]
        messages = [*opening(self.what), turn("user", self.question), turn("assistant", said)]
        return self._chat(messages, [(len(messages) - 1, ends)], step=index)

    def question_of_dialogue(self, index: int, messages: Sequence[Message]) -> Prompt:
        text = render(self.what, self.tokenizer, messages, generate=True) + self.what.tag
        ids = encode_part(self.tokenizer, text)
        if not ends_with_tag(self.what, ids):
            raise RecipeError(
                f"recipe {self.what.recipe.name!r}: its prompt's tag {self.what.tag!r} ends in the tokens {ids[-4:]} "
                f"with this tokenizer, expected {[list(tag) for tag in self.what.tags]}; "
                "use the tokenizer that came with the model"
            )
        return self._prompt(ids, [len(ids) - 1], step=index)

    def user(self, index: int) -> str:
        return (self.question if index == 0 else "") + self.written[index]

    def _solution(self) -> tuple[str, list[int]]:
        """All steps with their tags, and where in that text each tag ends."""
        text, ends = "", []
        for number, step in enumerate(self.written):
            text += (self.what.separator if number else "") + step + self.what.tag
            ends.append(len(text))
        return text, ends

    def _chat(self, messages: Sequence[Message], marks: list[tuple[int, list[int]]], step: int | None = None) -> Prompt:
        text = render(self.what, self.tokenizer, messages)
        ends = places(self.what, text, messages, marks)
        return self._found(text, ends, partial(encode_part, self.tokenizer), step)

    def _found(self, text: str, ends: list[int], encode: Any, step: int | None = None) -> Prompt:
        ids = encode(text)
        return self._prompt(ids, tag_ends(self.what, self.tokenizer, text, ids, lambda: ends, encode), step)

    def _prompt(self, ids: list[int], at: list[int], step: int | None = None) -> Prompt:
        """`at`: the last token of each tag. `step`: the index of the one step the prompt is about, if it is one."""
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            late = next((n for n, index in enumerate(at, 1) if index >= self.max_tokens), len(at))
            raise RequestError(
                f"the prompt has {len(ids)} tokens and the model takes {self.max_tokens}: step "
                f"{late if step is None else step + 1} of {len(self.steps)} no longer fits; send fewer or shorter "
                "steps, or serve with a larger --max-model-len"
            )
        positions = tuple(index + self.what.recipe.offset for index in at)
        if positions[0] < 0:
            raise RequestError(
                f"recipe {self.what.recipe.name!r} reads the token before the tag, and the first tag has none before it"
            )
        return Prompt(tuple(ids), positions)
