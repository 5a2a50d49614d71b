"""One builder for each kind of prompt: a solution's texts -> a draft.

The kinds are described in `recipes.prompt`. Builders write text and say where the tags in it are; they know no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vllm_prm.errors import RecipeError
from vllm_prm.prompts.chats import Message, ends_in_text, render, turn
from vllm_prm.prompts.drafts import AnswersDraft, Draft, SegmentsDraft, TextDraft
from vllm_prm.prompts.pictures import Content, between
from vllm_prm.prompts.texts import fill_question, fill_steps, stripped
from vllm_prm.recipes.binding import BoundRecipe


@dataclass(frozen=True)
class Solution:
    """A question and its steps, for one recipe.

    question: as the prompt writes it; parts, if it holds images that a chat template is to write. steps: as they were
    sent, stripped. written_steps: as the prompt writes them, without their tags.
    """

    recipe: BoundRecipe
    question: Content
    steps: tuple[str, ...]
    written_steps: tuple[str, ...]

    @classmethod
    def of(cls, question: Content, steps: list[str], recipe: BoundRecipe) -> Solution:
        prompt_format = recipe.prompt_format
        question, steps = stripped(question, steps, prompt_format)
        written = tuple(fill_steps(prompt_format, steps))
        return cls(recipe, fill_question(prompt_format, question), tuple(steps), written)

    @property
    def opening(self) -> list[Message]:
        """The system turn of a chat, if the recipe has one."""
        prompt_format = self.recipe.prompt_format
        if prompt_format.system is None:
            return []
        return [turn("system", prompt_format.system.replace("{rubric}", prompt_format.rubric))]

    def user_turn(self, index: int) -> Message:
        """Step `index` as a turn of its own; the first one begins with the question."""
        step = self.written_steps[index]
        return turn("user", between("", self.question, step) if index == 0 else step)

    @property
    def question_text(self) -> str:
        """The question of a prompt that is no chat."""
        assert isinstance(self.question, str), "only a chat template writes parts"
        return self.question

    def tagged_steps(self) -> tuple[str, list[int]]:
        """All steps with their tags, as one text, and where in it each tag ends."""
        text, tag_ends = "", []
        for index, step in enumerate(self.written_steps):
            text += (self.recipe.separator if index else "") + step + self.recipe.tag
            tag_ends.append(len(text))
        return text, tag_ends


def raw(solution: Solution) -> Draft:
    text, tag_ends = solution.tagged_steps()
    question = solution.question_text
    before = len(question)
    bare = solution.recipe.prompt_format.bos == "none"
    return TextDraft(question + text, tuple(before + end for end in tag_ends), is_bare=bare)


def segments(solution: Solution) -> Draft:
    return SegmentsDraft(solution.question_text, solution.written_steps)


def chat(solution: Solution) -> Draft:
    text, tag_ends = solution.tagged_steps()
    messages = [*solution.opening, turn("user", solution.question), turn("assistant", text)]
    return _chat_draft(solution, messages, {len(messages) - 1: tag_ends})


def turns(solution: Solution) -> Draft:
    messages, tag = solution.opening, solution.recipe.tag
    answers = range(len(messages) + 1, len(messages) + 2 * len(solution.steps), 2)
    for index in range(len(solution.steps)):
        messages.append(solution.user_turn(index))
        messages.append(turn("assistant", tag))
    return _chat_draft(solution, messages, dict.fromkeys(answers, [len(tag)]))


def passes(solution: Solution, index: int, earlier_passes: str, this_pass: str) -> Draft:
    """The chat that asks about one step.

    earlier_passes: their text, with the labels filled in. this_pass: its text, with `{tag}` where the model is read.
    """
    text = solution.recipe.separator.join([*solution.steps[:index], solution.written_steps[index]]) + earlier_passes
    tag_ends = []
    *before_tags, after_tags = this_pass.split("{tag}")
    for before_tag in before_tags:
        text += before_tag + solution.recipe.tag
        tag_ends.append(len(text))
    messages = [*solution.opening, turn("user", solution.question), turn("assistant", text + after_tags)]
    return _chat_draft(solution, messages, {len(messages) - 1: tag_ends}, step=index)


def judge_in_one_chat(solution: Solution) -> Draft:
    """The conversation in which every step but the last is answered as a right one is."""
    place = solution.recipe.answers
    assert place is not None
    messages, asked = solution.opening, {}
    for index in range(len(solution.steps)):
        if index:
            messages.append(turn("assistant", solution.recipe.tag))
        content = solution.user_turn(index)["content"].strip()  # templates may trim it, and then it ends there too
        asked[len(messages)] = [len(content)]
        messages.append(turn("user", content))
    text = render(solution.recipe, messages, begin_answer=True)
    ends = ends_in_text(solution.recipe, text, messages, asked)
    if elsewhere := [end for end in ends if not text.startswith(place.opening, end)]:
        raise RecipeError(
            f"recipe {solution.recipe.recipe.name!r}: this tokenizer's chat template writes "
            f"{text[elsewhere[0] : elsewhere[0] + 40]!r} after one user's turn, and {place.opening!r} after another; "
            "make prompt.chats 'per step'"
        )
    return AnswersDraft(text, tuple(end + len(place.opening) for end in ends))


def judge_one_step(solution: Solution, index: int) -> Draft:
    """The chat that asks about one step: question, the steps before it, this step and what is asked, in one turn."""
    prompt_format = solution.recipe.prompt_format
    earlier = fill_steps(prompt_format, solution.steps[:index], is_asked=False)
    content = solution.question_text + solution.recipe.separator.join([*earlier, solution.written_steps[index]])
    text = render(solution.recipe, [*solution.opening, turn("user", content.strip())], begin_answer=True)
    return AnswersDraft(text, (len(text),), step=index)


def dialogue(solution: Solution, index: int, messages: Sequence[Message]) -> Draft:
    """The conversation up to step `index`, and the beginning of the assistant's answer, up to the tag."""
    text = render(solution.recipe, messages, begin_answer=True) + solution.recipe.tag
    return TextDraft(text, (len(text),), is_bare=True, step=index)


def _chat_draft(
    solution: Solution, messages: Sequence[Message], tag_ends: dict[int, list[int]], step: int | None = None
) -> Draft:
    """tag_ends: by index of the message, where in its content each tag ends."""
    text = render(solution.recipe, messages)
    return TextDraft(text, ends_in_text(solution.recipe, text, messages, tag_ends), is_bare=True, step=step)
