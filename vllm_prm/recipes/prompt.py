"""How a question and its steps become the prompt a PRM was trained on, as a validated, frozen dataclass.

In JSON, the `prompt` section of a recipe:

    {"kind": "raw", "question": "{question} ", "step": "Step {k}: {step}", "tag": " ки", "separator": "\\n"}

reads `Two plus two? Step 1: 2 + 2 = 4 ки\\nStep 2: So 4. ки`. The kinds, with what each makes of the fields:

    raw       question, then step + tag for each step, separator between them; one text, special tokens as the
              tokenizer adds them
    segments  the same, but question and every step are tokenized on their own, BOS stands before the question, and each
              step is followed by the tag's ids (if the recipe has a tag)
    chat      user: question; assistant: step + tag for each step, separator between them
    turns     one user turn for each step (the first one begins with question), answered by the assistant with tag
    passes    one chat for each step. user: question; assistant: the steps before it as they are, then this step and
              passes[0], separator between them all. A pass may hold several `{tag}`; each is answered, filled in, and
              the next pass is added to the same text. The step's score is the last answer
    judge     the turns of `turns`, for a model that no tag was taught to: it is read where its answer to a user's turn
              would begin, and the answer that counts most is written there before the next step is asked. Where the
              chat template writes an answer otherwise once it is past (or cannot write several turns), each step has a
              chat of its own, whose one turn is the question, the steps up to this one, and what is asked
    dialogue  one chat that grows: user: step (the first one begins with question); assistant: tag, the answer read
              there, answer
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from vllm_prm.errors import RecipeError

_Text = Annotated[str, Field(strict=True)]
CHAT_KINDS = ("chat", "turns", "passes", "judge", "dialogue")
_ANSWERED = ("passes", "dialogue")  # the kinds that write what the model answers into their next prompts
_PLACES = {"question": "{question}", "step": "{step}"}


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PromptFormat:
    """See the module's text for the kinds. Placeholders stand in braces; any other brace is a brace.

    question: with `{question}`; what comes before the first step, or the user's turn.
    step: with `{step}`, and `{k}` for its number from 1. A numbered beginning is left out where the step already
        begins so, with whatever number: "Step 2: ..." is not numbered twice.
    tag: the text that ends a step, as written in the prompt; its last token is the recipe's step tag's last one.
        None: the step tag's own piece as text.
    separator: between a tag and the next step. None: a newline, or nothing after a tag that ends in one.
    system: the chat's system turn; None: none, and the tokenizer's chat template may add its own.
    passes, answer: see the kinds passes and dialogue.
    rubric: of the kind judge: what makes a step a good one. Stands for `{rubric}` in question, step or system.
    chats: of the kind judge: "one" for a solution, or one "per step"; None: one, if the chat template allows it.
    strip: whose white space at both ends is taken off: "none", "steps", or "all" (the question's too). White space
        next to a tag of white space becomes another token.
    bos: for segments and raw: "required", BOS comes first; "if any", if the tokenizer has one; "none". None: required
        in segments, and as the tokenizer does it in a raw prompt (which takes no other value but "none").
    split: where a solution's text is cut into steps: the first of these texts that occurs in it. Empty: the tag, a
        blank line, a newline.
    """

    kind: Literal["raw", "segments", "chat", "turns", "passes", "judge", "dialogue"] = "raw"
    question: _Text = "{question}\n"
    step: _Text = "{step}"
    tag: _Text | None = None
    separator: _Text | None = None
    system: _Text | None = None
    passes: Annotated[tuple[_Text, ...], BeforeValidator(_texts)] = ()
    answer: _Text = ""
    rubric: _Text = ""
    chats: Literal["one", "per step"] | None = None
    strip: Literal["none", "steps", "all"] = "steps"
    bos: Literal["required", "if any", "none"] | None = None
    split: Annotated[tuple[_Text, ...], BeforeValidator(_texts)] = ()

    def __post_init__(self) -> None:
        if fault := next(self._faults(), None):
            raise RecipeError(f"prompt of kind {self.kind!r}: {fault}")

    def _faults(self) -> Iterator[str]:
        for name, place in _PLACES.items():
            text = getattr(self, name)
            if text.count(place) != 1:
                yield f"{name} is {text!r}; it must hold {place} exactly once, for example {place!r}"
        if self.tag == "":
            yield "tag is empty; give the text that ends a step, or leave it out to use the step tag's own piece"
        if "" in self.split:
            yield "split holds an empty text, which ends no step; give texts such as '\\n\\n', or leave it out"
        if self.kind not in CHAT_KINDS and self.system is not None:
            yield f"system is {self.system!r}, but only chats ({', '.join(CHAT_KINDS)}) have a system turn"
        if self.bos is not None and self.kind != "segments" and (self.kind, self.bos) != ("raw", "none"):
            yield f"bos is {self.bos!r}; a prompt of kind 'segments' takes it, a raw one 'none', and others nothing"
        if self.kind != "passes" and self.passes:
            yield f"passes are {list(self.passes)}, but only the kind 'passes' has them"
        if self.kind != "dialogue" and self.answer:
            yield f"answer is {self.answer!r}, but only the kind 'dialogue' writes answers back"
        yield from self._judge_faults()
        if self.kind == "passes":
            if not all("{tag}" in text for text in self.passes) or not self.passes:
                yield "every pass must hold {tag}, where the model is read, for example [' Correct: {tag}']"
            elif self.passes[-1].count("{tag}") != 1:
                yield f"the last pass gives the step's score, so it must hold {{tag}} once; found {self.passes[-1]!r}"
        if self.kind in _ANSWERED and self.tag is None:
            yield "tag is missing; give the text at which the model is read"

    @property
    def asks_again(self) -> bool:
        """Whether later prompts of a solution hold what the model answered to earlier ones."""
        return self.kind in _ANSWERED

    def _judge_faults(self) -> Iterator[str]:
        if self.kind != "judge":
            if self.rubric or self.chats is not None:
                yield "rubric and chats are of the kind 'judge' only; write the text into question or system instead"
            return
        if self.tag is not None:
            yield f"tag is {self.tag!r}, but a judge is read where its answer begins, and needs none; leave it out"
        if self.rubric and not any("{rubric}" in text for text in (self.question, self.step, self.system or "")):
            yield "there is a rubric, and no place for it: put {rubric} into question, step or system"
        if place := next((place for place in (*_PLACES.values(), "{k}", "{rubric}") if place in self.rubric), None):
            yield f"rubric holds {place}, which is filled in elsewhere; give a text without it"
