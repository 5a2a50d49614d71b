"""Scorer: what everything that scores has in common, an engine of one's own (PRM) or a server (PRMClient)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from vllm_prm.aggregate import check_aggregation
from vllm_prm.errors import BatchError, PRMError, RequestError
from vllm_prm.inputs import checked_steps, shown
from vllm_prm.questions import Question, checked_question
from vllm_prm.reward import RewardFunction
from vllm_prm.scores import Ranking, StepScores

if TYPE_CHECKING:
    from vllm_prm.recipes.types import Recipe

Item = tuple[Question, Sequence[str]] | Mapping[str, Any]
OnError = Literal["raise", "return"]


class Scorer(ABC):
    """Scores solutions. A subclass gives `recipe` and `score_batch`; the rest follows. A context manager.

    A question is a text, or a list of content parts with images (`vllm_prm.questions`).
    """

    _takes_pil = False  # whether an image of a question may be an object of this process

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """The recipe that solutions are scored by."""

    @abstractmethod
    def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        """Score many solutions. Results come in the order of the items.

        items: (question, steps) pairs, or mappings with "question" and "steps".
        on_error: "return" puts the PRMError in the place of an item that cannot be scored; "raise" raises BatchError,
            which carries all results, after everything else has finished.
        progress: show a progress bar.
        """

    def score(self, question: Question, steps: Sequence[str]) -> StepScores:
        """Score one solution. Raises RequestError if it cannot be scored."""
        solution = checked_question(question, pil=self._takes_pil), checked_steps(steps)
        result = self.score_batch([solution], on_error="return", progress=False)[0]
        if isinstance(result, PRMError):
            raise result
        return result

    def rank(self, question: Question, candidates: Sequence[Sequence[str]], aggregate: str | None = None) -> Ranking:
        """Score several solutions of one question and put them in order, best first.

        aggregate: how step scores become one number; None: the recipe's own way.
        Raises RequestError for no candidates or an unknown aggregation, before anything is scored; BatchError if a
        candidate cannot be scored.
        """
        if aggregate is not None:
            check_aggregation(aggregate)
        if isinstance(candidates, str) or not candidates:
            raise RequestError(f"candidates is {candidates!r}; expected a list of solutions, each a list of steps")
        results = self.score_batch([(question, steps) for steps in candidates], progress=False)
        return Ranking.of([result for result in results if isinstance(result, StepScores)], aggregate)

    def reward_fn(
        self, aggregate: str | None = None, split: str | Callable[[str], Sequence[str]] | None = None
    ) -> RewardFunction:
        """A reward function for TRL's trainers (`GRPOTrainer(reward_funcs=prm.reward_fn())`).

        aggregate: how step scores become the reward; None: the recipe's own way.
        split: what ends a step in a completion's text, or a function from text to steps; None: as the recipe splits.
        """
        return RewardFunction(self, aggregate, split)

    def close(self) -> None:
        """Give back what the scorer holds. Calling it twice does no harm."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_items(
    items: Iterable[Item], on_error: OnError = "raise", *, pil: bool = False
) -> list[tuple[Question, list[str]] | RequestError]:
    """Each item as (question, steps), or as the RequestError that says what is wrong with it, naming its index.

    pil: whether images may be PIL's.

    Whether the texts can be scored (too many tokens, a tag that merges) is for `prompts` to say. Raises RequestError
    if `items` is no collection of items, or `on_error` is neither "raise" nor "return".
    """
    if on_error not in ("raise", "return"):
        raise RequestError(f"on_error is {on_error!r}; expected 'raise' or 'return'")
    if isinstance(items, str | Mapping) or not isinstance(items, Iterable):
        raise RequestError(
            f"items is a {type(items).__name__}; expected a list of (question, steps) pairs or of mappings with "
            "'question' and 'steps'. For one solution use score(question, steps)"
        )
    return [_checked(i, item, pil) for i, item in enumerate(items)]


def settled(results: list[StepScores | PRMError], on_error: OnError) -> list[StepScores | PRMError]:
    """The results as they are, unless one is an error and `on_error` is "raise": then raises BatchError."""
    if on_error == "raise" and any(isinstance(result, PRMError) for result in results):
        raise BatchError(results)
    return results


def _checked(i: int, item: Any, pil: bool) -> tuple[Question, list[str]] | RequestError:
    try:
        if isinstance(item, Mapping):
            if missing := [name for name in ("question", "steps") if name not in item]:
                return RequestError(
                    f"item {i} has no {' and no '.join(map(repr, missing))}, only {sorted(map(str, item))}; "
                    "expected a mapping with 'question' and 'steps'"
                )
            question, steps = item["question"], item["steps"]
        elif isinstance(item, tuple | list) and len(item) == 2:
            question, steps = item
        else:
            return RequestError(
                f"item {i} is {shown(item)}; expected a (question, steps) pair or a mapping with 'question' and 'steps'"
            )
        return checked_question(question, pil=pil), checked_steps(steps)
    except RequestError as error:
        return RequestError(f"item {i}: {error}")
