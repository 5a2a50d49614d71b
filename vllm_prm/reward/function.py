"""RewardFunction and AsyncRewardFunction: something that scores, as a reward function of TRL's trainers.

The calling convention is TRL's (https://huggingface.co/docs/trl/grpo_trainer, "Using a custom reward function"; read
in TRL 1.16's grpo_trainer.py): called with `prompts`, `completions` and, by name, whatever else the trainer has
(`completion_ids`, `trainer_state`, `log_extra`, dataset columns, ...), it returns one float per completion, or None
where it does not apply. Texts come as strings, or as lists of messages if the dataset is conversational. A trainer
awaits a function whose `__call__` is a coroutine function. Other stacks ask for `rewards`, and say it in their words.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vllm_prm.aggregate import check_aggregation
from vllm_prm.errors import BatchError, PRMError, RequestError, ScorerError
from vllm_prm.reward.outcome import Reward
from vllm_prm.reward.texts import Text, question_of, solution_of
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    from vllm_prm.recipes import Recipe

logger = logging.getLogger(__name__)

Split = str | Callable[[str], Sequence[str]] | None
_Solution = tuple[str, Sequence[str]]


class ScoresBatches(Protocol):
    """What a reward function needs of a `Scorer`."""

    @property
    def recipe(self) -> Recipe: ...

    def score_batch(
        self, items: Iterable[_Solution], *, on_error: Literal["raise", "return"], progress: bool
    ) -> list[StepScores | PRMError]: ...


class AwaitsBatches(Protocol):
    """What an asynchronous one needs of an `AsyncPRMClient`."""

    async def recipe(self) -> Recipe: ...

    async def score_batch(
        self, items: Iterable[_Solution], *, on_error: Literal["raise", "return"], progress: bool
    ) -> list[StepScores | PRMError]: ...


@dataclass
class _Batch:
    """Completions on their way to rewards. items: those to be scored, by index. results: what the others get."""

    recipe: Recipe
    items: dict[int, _Solution]
    results: list[StepScores | PRMError]


class _Rewards:
    """All of a reward function but the asking."""

    def __init__(self, aggregate: str | None, split: Split, name: str) -> None:
        if aggregate is not None:
            check_aggregation(aggregate)
        if split == "":
            raise RequestError("split is empty; give the text that ends a step, a function, or None")
        self.aggregate = aggregate
        self.split = split
        self.unscored = 0
        self.__name__ = name  # TRL logs a reward function by it

    def _batch(self, prompts: Sequence[Text], completions: Sequence[Text], recipe: Recipe) -> _Batch:
        if len(prompts) != len(completions):
            raise RequestError(
                f"{len(prompts)} prompts and {len(completions)} completions; expected one prompt for each completion"
            )
        questions, solutions = [question_of(text) for text in prompts], [solution_of(text) for text in completions]
        batch = _Batch(recipe, {}, [RequestError("the completion is empty")] * len(solutions))
        for i, (question, solution) in enumerate(zip(questions, solutions, strict=True)):
            try:
                if steps := self._steps(solution, recipe):
                    batch.items[i] = question, steps
            except RequestError as error:  # a text without a step, such as a tag alone
                batch.results[i] = error
        return batch

    def _steps(self, text: str, recipe: Recipe) -> list[str]:
        if callable(self.split):
            return list(self.split(text))
        if self.split is not None:
            return [step for part in text.split(self.split) if (step := part.strip())]
        if not text.strip():
            return []
        from vllm_prm.prompts import split_steps

        return list(split_steps(text, recipe))

    def _rewards(self, batch: _Batch, scored: Sequence[StepScores | PRMError]) -> list[Reward]:
        for i, result in zip(batch.items, scored, strict=True):
            batch.results[i] = result
        if any(isinstance(result, ScorerError) for result in batch.results):
            raise BatchError(batch.results)
        for result in batch.results:
            if isinstance(result, PRMError):
                self._warn(result)
        return [Reward(result, self.aggregate or batch.recipe.aggregation) for result in batch.results]

    def _warn(self, error: PRMError) -> None:
        self.unscored += 1
        if str(self.unscored).strip("0") == "1":
            logger.warning(
                "A completion gets no reward from %s: %s (%d such completions so far.)",
                self.__name__,
                error,
                self.unscored,
            )

    def _values(self, rewards: list[Reward], context: dict[str, Any]) -> list[float | None]:
        """For TRL, and its logs: a column of the table of completions, and two averages."""
        if rewards and callable(log_extra := context.get("log_extra")):
            log_extra(f"{self.__name__}_steps", [" ".join(f"{p:.4f}" for p in one.step_scores) for one in rewards])
        if rewards and callable(log_metric := context.get("log_metric")):
            log_metric(f"{self.__name__}/steps", sum(len(one.step_scores) for one in rewards) / len(rewards))
            log_metric(f"{self.__name__}/unscored", sum(one.value is None for one in rewards) / len(rewards))
        return [reward.value for reward in rewards]


class RewardFunction(_Rewards):
    """The aggregate of a completion's step scores, as its reward.

    The question is the prompt, or the last user message of a conversational one; the solution is the completion, or
    all that the assistant says in it. A completion that cannot be scored (an empty one, one too long for the model)
    gets None, which TRL takes as "this function does not apply", and a warning at the 1st, 10th, 100th, ... of them.
    Anything else that goes wrong, such as a server that is gone, is raised: training must not go on without rewards.
    """

    def __init__(self, scorer: ScoresBatches, aggregate: str | None = None, split: Split = None) -> None:
        super().__init__(aggregate, split, f"{scorer.recipe.name}_{aggregate or scorer.recipe.aggregation}")
        self.scorer = scorer

    def __call__(self, prompts: Sequence[Text], completions: Sequence[Text], **kwargs: Any) -> list[float | None]:
        """One reward per completion; raises what `rewards` does."""
        return self._values(self.rewards(prompts, completions), kwargs)

    def rewards(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[Reward]:
        """One Reward per completion, with its step scores. Raises RequestError for texts that are neither strings nor
        messages, BatchError if the scorer fails for a reason that is not in the completion."""
        batch = self._batch(prompts, completions, self.scorer.recipe)
        items = list(batch.items.values())
        return self._rewards(batch, self.scorer.score_batch(items, on_error="return", progress=False) if items else [])


class AsyncRewardFunction(_Rewards):
    """The same for a trainer that awaits: several reward functions of a batch run at the same time.

    It is named after the aggregation alone: the recipe is the server's to say, which is asked at the first batch.
    """

    def __init__(self, scorer: AwaitsBatches, aggregate: str | None = None, split: Split = None) -> None:
        super().__init__(aggregate, split, f"prm_{aggregate}" if aggregate else "prm")
        self.scorer = scorer

    async def __call__(self, prompts: Sequence[Text], completions: Sequence[Text], **kwargs: Any) -> list[float | None]:
        """One reward per completion; raises what `rewards` does."""
        return self._values(await self.rewards(prompts, completions), kwargs)

    async def rewards(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[Reward]:
        """As RewardFunction.rewards. Raises PRMError also if the server cannot be asked for its recipe."""
        batch = self._batch(prompts, completions, await self.scorer.recipe())
        items = list(batch.items.values())
        return self._rewards(
            batch, await self.scorer.score_batch(items, on_error="return", progress=False) if items else []
        )
