"""How often the model is asked about a solution, and what the next prompts are once it has answered the last ones.

Most kinds of prompt ask once. `passes` asks in passes and `dialogue` step by step, and both write the likelier scoring
token back into the next prompt. That is why recipes of these kinds read the output head and score by softmax
(`recipes.types` refuses others): a step whose answer is the wrong one must score below one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vllm_prm.prompts import layouts
from vllm_prm.prompts.chats import turn
from vllm_prm.prompts.drafts import Draft
from vllm_prm.prompts.layouts import Solution
from vllm_prm.scores import FIRST_ERROR_THRESHOLD, weighted_scores


class Rounds(Protocol):
    """Asked in turn: `drafts` (none left: done), `take` with logits [tags, scoring tokens] of each, `drafts`, ..."""

    def drafts(self) -> list[Draft]: ...

    def take(self, logits: Sequence[np.ndarray]) -> None: ...

    def step_logits(self) -> np.ndarray:
        """float32 [steps, scoring tokens], when done."""
        ...


class OnePrompt:
    """One prompt that has a tag for every step."""

    def __init__(self, draft: Draft) -> None:
        self._drafts = [draft]
        self._logits: np.ndarray | None = None

    def drafts(self) -> list[Draft]:
        return self._drafts

    def take(self, logits: Sequence[np.ndarray]) -> None:
        (self._logits,) = logits
        self._drafts = []

    def step_logits(self) -> np.ndarray:
        assert self._logits is not None
        return self._logits


class PromptPerStep:
    """A prompt for each step, all asked at once."""

    def __init__(self, drafts: list[Draft]) -> None:
        self._drafts = drafts
        self._logits: Sequence[np.ndarray] = ()

    def drafts(self) -> list[Draft]:
        return self._drafts

    def take(self, logits: Sequence[np.ndarray]) -> None:
        self._logits, self._drafts = logits, []

    def step_logits(self) -> np.ndarray:
        return np.concatenate(self._logits)


class Passes:
    """A chat for each step, asked in passes. A step is wrong, and not asked further, if a pass has a tag below 0.5.

    Its logits are those of that pass's worst tag, so that its score is below 0.5 as well. A step that no pass finds
    wrong has the logits of the last pass, which holds one tag.
    """

    def __init__(self, solution: Solution) -> None:
        self._solution = solution
        self._passes = list(solution.recipe.prompt_format.passes)  # those still to come
        self._filled_passes = [""] * len(solution.steps)  # per step, those behind it with the answers filled in
        self._step_logits: dict[int, np.ndarray] = {}  # of the steps that are decided

    def drafts(self) -> list[Draft]:
        if not self._passes:
            return []
        return [
            layouts.passes(self._solution, step, self._filled_passes[step], self._passes[0])
            for step in self._undecided()
        ]

    def take(self, logits: Sequence[np.ndarray]) -> None:
        this_pass = self._passes.pop(0)
        for step, tag_logits in zip(self._undecided(), logits, strict=True):
            tag_scores = weighted_scores(tag_logits, self._solution.recipe.recipe)
            if not self._passes or tag_scores.min() < FIRST_ERROR_THRESHOLD:
                self._step_logits[step] = tag_logits[tag_scores.argmin()]
            labels = [self._solution.recipe.scoring_texts[column] for column in tag_logits.argmax(axis=1)]
            first, *others = this_pass.split("{tag}")
            self._filled_passes[step] += first + "".join(map("".join, zip(labels, others, strict=True)))

    def step_logits(self) -> np.ndarray:
        return np.stack([self._step_logits[step] for step in range(len(self._solution.steps))])

    def _undecided(self) -> list[int]:
        return [step for step in range(len(self._solution.steps)) if step not in self._step_logits]


class Dialogue:
    """A chat in which every answer stands before the next step is asked."""

    def __init__(self, solution: Solution) -> None:
        self._solution = solution
        self._messages = solution.opening
        self._step_logits: list[np.ndarray] = []

    def drafts(self) -> list[Draft]:
        step = len(self._step_logits)
        if step == len(self._solution.steps):
            return []
        messages = [*self._messages, self._solution.user_turn(step)]
        return [layouts.dialogue(self._solution, step, messages)]

    def take(self, logits: Sequence[np.ndarray]) -> None:
        ((step_logits,),) = logits
        recipe = self._solution.recipe
        label = recipe.scoring_texts[int(step_logits.argmax())]
        self._messages.append(self._solution.user_turn(len(self._step_logits)))
        self._messages.append(turn("assistant", recipe.tag + label + recipe.prompt_format.answer))
        self._step_logits.append(step_logits)

    def step_logits(self) -> np.ndarray:
        return np.stack(self._step_logits)


def rounds_of(solution: Solution) -> Rounds:
    """How this solution's recipe asks."""
    kind = solution.recipe.prompt_format.kind
    if kind == "passes":
        return Passes(solution)
    if kind == "dialogue":
        return Dialogue(solution)
    if kind == "judge":
        return _judge(solution)
    build = {
        "raw": layouts.raw,
        "segments": layouts.segments,
        "chat": layouts.chat,
        "turns": layouts.turns,
    }[kind]
    return OnePrompt(build(solution))


def _judge(solution: Solution) -> Rounds:
    assert solution.recipe.answers is not None
    if solution.recipe.answers.in_one_chat:
        return OnePrompt(layouts.judge_in_one_chat(solution))
    return PromptPerStep([layouts.judge_one_step(solution, step) for step in range(len(solution.steps))])
