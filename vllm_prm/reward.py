"""RewardFunction: a scorer as a reward function of TRL's trainers.

The calling convention is TRL's (https://huggingface.co/docs/trl/grpo_trainer, "Using a custom reward function"; read
in TRL 1.16's grpo_trainer.py): called with `prompts`, `completions` and, by name, whatever else the trainer has
(`completion_ids`, `trainer_state`, dataset columns, ...), it returns one float per completion, or None where it does
not apply. Texts come as strings, or as lists of messages if the dataset is conversational.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vllm_prm.aggregate import check_aggregation
from vllm_prm.errors import BatchError, PRMError, RequestError, ScorerError
from vllm_prm.inputs import shown
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    from vllm_prm.recipes import Recipe

logger = logging.getLogger(__name__)

Text = str | Sequence[Mapping[str, Any]]  # plain, or messages with "role" and "content"


class ScoresBatches(Protocol):
    """What a reward function needs of a `Scorer`."""

    @property
    def recipe(self) -> Recipe: ...

    def score_batch(
        self, items: Iterable[tuple[str, Sequence[str]]], *, on_error: Literal["raise", "return"], progress: bool
    ) -> list[StepScores | PRMError]: ...


class RewardFunction:
    """The aggregate of a completion's step scores, as its reward.

    The question is the prompt, or the last user message of a conversational one; the solution is the completion, or
    all that the assistant says in it. A completion that cannot be scored (an empty one, one too long for the model)
    gets None, which TRL takes as "this function does not apply", and a warning at the 1st, 10th, 100th, ... of them.
    Anything else that goes wrong, such as a server that is gone, is raised: training must not go on without rewards.
    """

    def __init__(
        self,
        scorer: ScoresBatches,
        aggregate: str | None = None,
        split: str | Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        if aggregate is not None:
            check_aggregation(aggregate)
        if split == "":
            raise RequestError("split is empty; give the text that ends a step, a function, or None")
        self.scorer = scorer
        self.aggregate = aggregate
        self.split = split
        self.unscored = 0
        # TRL logs a reward function by this name.
        self.__name__ = f"{scorer.recipe.name}_{aggregate or scorer.recipe.aggregation}"

    def __call__(self, prompts: Sequence[Text], completions: Sequence[Text], **kwargs: Any) -> list[float | None]:
        """One reward per completion. Raises RequestError for texts that are neither strings nor messages,
        BatchError if the scorer fails for a reason that is not in the completion."""
        if len(prompts) != len(completions):
            raise RequestError(
                f"{len(prompts)} prompts and {len(completions)} completions; expected one prompt for each completion"
            )
        questions, solutions = [_question(text) for text in prompts], [_solution(text) for text in completions]
        results: list[StepScores | PRMError] = [RequestError("the completion is empty")] * len(solutions)
        items: dict[int, tuple[str, list[str]]] = {}
        for i, (question, solution) in enumerate(zip(questions, solutions, strict=True)):
            try:
                if steps := self._steps(solution):
                    items[i] = question, steps
            except RequestError as error:  # a text without a step, such as a tag alone
                results[i] = error
        scored = self.scorer.score_batch(list(items.values()), on_error="return", progress=False) if items else []
        for i, result in zip(items, scored, strict=True):
            results[i] = result
        if any(isinstance(result, ScorerError) for result in results):
            raise BatchError(results)
        return [self._reward(result) for result in results]

    def _steps(self, text: str) -> list[str]:
        if callable(self.split):
            return list(self.split(text))
        if self.split is not None:
            return [step for part in text.split(self.split) if (step := part.strip())]
        if not text.strip():
            return []
        from vllm_prm.prompts import split_steps

        return list(split_steps(text, self.scorer.recipe))

    def _reward(self, result: StepScores | PRMError) -> float | None:
        if isinstance(result, StepScores):
            return result.aggregate(self.aggregate)
        self.unscored += 1
        if str(self.unscored).strip("0") == "1":
            logger.warning(
                "A completion gets no reward from %s: %s (%d such completions so far.)",
                self.__name__,
                result,
                self.unscored,
            )
        return None


def _question(prompt: Text) -> str:
    if isinstance(prompt, str):
        return prompt
    texts = [_content(message) for message in _messages(prompt, "prompt") if message["role"] == "user"]
    if not texts:
        raise RequestError(
            f"a prompt of {len(prompt)} messages has none from the user; expected the question in a message "
            "with role 'user'"
        )
    return texts[-1]


def _solution(completion: Text) -> str:
    if isinstance(completion, str):
        return completion
    texts = (_content(message) for message in _messages(completion, "completion") if message["role"] == "assistant")
    return "\n\n".join(text for text in texts if text)


def _messages(text: Any, role_in_call: str) -> list[Mapping[str, Any]]:
    if not isinstance(text, Sequence) or not all(isinstance(m, Mapping) and "role" in m for m in text):
        raise RequestError(
            f"a {role_in_call} is {shown(text)}; expected a string, or a list of messages with 'role' and 'content'"
        )
    return list(text)


def _content(message: Mapping[str, Any]) -> str:
    """A message's text. Its content may be None (a tool call) or a list of parts, of which texts count."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""
