"""PRM: score solutions in this process, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

from tqdm import tqdm  # type: ignore[import-untyped]

from vllm_prm.engine.compat import check_vllm, request_failure
from vllm_prm.engine.positions import positions_request
from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import EngineError, PRMError, RequestError
from vllm_prm.prompts import Prompt, Scoring, scorings, take_all
from vllm_prm.recipes import Recipe, bind, recipe_for
from vllm_prm.scorer import Item, OnError, Scorer, checked_items, settled
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    import numpy as np
    from vllm import LLM
    from vllm.outputs import PoolingRequestOutput

# Solutions that are planned at once. Few at first, because the engine waits for them; then more each time, because it
# runs empty at the end of each. While it works on some, the next are planned: that takes a fraction of its time.
_FIRST, _MOST = 256, 4096

_Checked = tuple[str, list[str]] | RequestError


class PRM(Scorer):
    """A process reward model on an engine of its own.

    model: a name or folder, as vLLM takes it. recipe: a Recipe, a name, a JSON file or inline JSON; None finds it by
    the model's name or its prm.json. lora: an adapter's folder, applied to every request. Everything else goes to
    vLLM's LLM. In a script, create it under `if __name__ == "__main__":`, because vLLM starts processes.

    Raises RecipeError if no recipe is known or the model does not fit it, UnsupportedError if vLLM is not installed, or
    not tested with, or if the engine cannot serve a PRM as configured.
    """

    def __init__(
        self, model: str, recipe: Recipe | str | None = None, *, lora: str | None = None, **engine_args: Any
    ) -> None:
        check_vllm()
        if not isinstance(recipe, Recipe):
            recipe = recipe_for(model, recipe, "PRM(model, recipe=...)")
        from vllm import LLM

        options = engine_options(recipe, engine_args)
        if lora is not None:
            options.setdefault("enable_lora", True)
        self._lora = _lora_request(lora)
        self._llm: LLM | None = LLM(model, **options)
        self._bound_recipe = bind(recipe, self._llm.get_tokenizer())

    @property
    def recipe(self) -> Recipe:
        return self._bound_recipe.recipe

    @property
    def llm(self) -> LLM:
        """vLLM's engine, for everything else it can do. Raises EngineError after close()."""
        if self._llm is None:
            raise EngineError("this PRM is closed; make a new one")
        return self._llm

    def close(self) -> None:
        """Stop the engine and free its memory. Harmless if done already."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def score_batch(
        self, items: Iterable[Item], *, on_error: OnError = "raise", progress: bool = True
    ) -> list[StepScores | PRMError]:
        checked = checked_items(items, on_error)
        results: list[StepScores | PRMError] = []
        with (
            ThreadPoolExecutor(1, "prm-planner") as planner,
            tqdm(total=len(checked), desc="Scoring", unit="prompt", disable=not progress) as bar,
        ):
            for planned in self._planned_ahead(planner, checked):
                results += self._scored(planned, bar)
        return settled(results, on_error)

    def _planned_ahead(
        self, planner: ThreadPoolExecutor, items: Sequence[_Checked]
    ) -> Iterator[list[Scoring | PRMError]]:
        """The items in chunks, planned. While the caller works on one, the next is planned, and no more."""
        if len(items) <= _FIRST:  # a round of a search: no thread is worth starting
            yield self._planned(items)
            return
        next_one: Future[list[Scoring | PRMError]] | None = None
        for chunk in _chunks(items):
            this_one, next_one = next_one, planner.submit(self._planned, chunk)
            if this_one is not None:
                yield this_one.result()
        if next_one is not None:
            yield next_one.result()

    def _planned(self, items: Sequence[_Checked]) -> list[Scoring | PRMError]:
        longest = self.llm.model_config.max_model_len
        solutions = [item for item in items if not isinstance(item, RequestError)]
        planned = iter(scorings(solutions, self._bound_recipe, longest))
        return [item if isinstance(item, RequestError) else next(planned) for item in items]

    def _scored(self, planned: Sequence[Scoring | PRMError], bar: tqdm) -> list[StepScores | PRMError]:
        results: dict[int, StepScores | PRMError] = {}
        waiting: dict[int, Scoring] = {}  # by index into `planned`, those that still wait for logits
        for index, scoring in enumerate(planned):
            if isinstance(scoring, Scoring):
                waiting[index] = scoring
            else:
                results[index] = scoring
        bar.total -= len(planned)  # a solution counts as one prompt until its prompts are known
        while waiting:
            outputs = iter(self._encode([prompt for scoring in waiting.values() for prompt in scoring.prompts], bar))
            answers = {}
            for index, scoring in waiting.items():
                its_outputs = list(islice(outputs, len(scoring.prompts)))
                try:
                    logits = [_logits(output) for output in its_outputs]
                except PRMError as error:
                    results[index] = error
                    continue
                answers[index] = (scoring, logits, sum(output.num_cached_tokens or 0 for output in its_outputs))
            waiting = {}
            faults = take_all(list(answers.values()))  # of logits that do not fit, or of the next prompts
            for (index, (scoring, *_)), fault in zip(answers.items(), faults, strict=True):
                if fault is None and scoring.prompts:
                    waiting[index] = scoring
                else:
                    results[index] = fault or _result(scoring)
        return [results[index] for index in range(len(planned))]

    def _encode(self, prompts: Sequence[Prompt], bar: tqdm) -> list[PoolingRequestOutput]:
        from vllm import PoolingParams

        bar.total += len(prompts)
        return self.llm.encode(
            [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts],
            [
                PoolingParams(use_activation=False, extra_kwargs=positions_request(list(prompt.positions)))
                for prompt in prompts
            ],
            pooling_task="embed",
            lora_request=self._lora,
            use_tqdm=_PartOf(bar),
        )


class _PartOf:
    """A progress bar for vLLM that moves one of ours, so that many calls have one bar.

    vLLM makes its bars by calling what it is given, as tqdm itself is called.
    """

    n = -1  # vLLM refreshes a bar whose `n` is the number of its prompts; ours refreshes itself

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar

    def __call__(self, iterable: Iterable[Any] | None = None, **_: Any) -> Any:
        return self if iterable is None else iterable  # a second bar, of prompts handed over: not shown

    def update(self, n: int = 1) -> None:
        self._bar.update(n)

    def close(self) -> None:
        return


def _chunks(items: Sequence[_Checked]) -> Iterator[Sequence[_Checked]]:
    start, size = 0, _FIRST
    while start < len(items):
        yield items[start : start + size]
        start, size = start + size, min(2 * size, _MOST)


def _result(scoring: Scoring) -> StepScores | PRMError:
    try:
        return scoring.result()
    except PRMError as error:  # logits that are not finite
        return error


def _logits(output: PoolingRequestOutput) -> np.ndarray:
    """[positions × scoring tokens]. Raises RequestError or EngineError, by whose fault it is, if the request failed."""
    if (failure := request_failure(output)) is not None:
        kind = RequestError if isinstance(failure, ValueError) else EngineError
        raise kind(f"the engine could not score a prompt of this solution: {failure}") from failure
    logits: np.ndarray = output.outputs.data.numpy()
    return logits


def _lora_request(path: str | None) -> Any:
    if path is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("prm", 1, path)
