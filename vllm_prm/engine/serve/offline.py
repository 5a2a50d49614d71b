"""PRM: score solutions in this process, without a server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from vllm_prm.engine.compat import check_vllm, request_failure
from vllm_prm.engine.positions import positions_request
from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import EngineError, PRMError, RequestError
from vllm_prm.prompts import Prompt, Scoring
from vllm_prm.recipes import Recipe, bind, recipe_for
from vllm_prm.scorer import Item, OnError, Scorer, checked_items, settled
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    import numpy as np
    from vllm import LLM
    from vllm.outputs import PoolingRequestOutput

# Solutions whose prompts are built before the engine gets them: enough to fill any batch, little to hold in memory.
_AT_ONCE = 4096


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
        for start in range(0, len(checked), _AT_ONCE):
            results += self._score_some(checked[start : start + _AT_ONCE], progress)
        return settled(results, on_error)

    def _score_some(
        self, items: Sequence[tuple[str, list[str]] | RequestError], progress: bool
    ) -> list[StepScores | PRMError]:
        results: dict[int, StepScores | PRMError] = {}
        scorings: dict[int, Scoring] = {}  # by index of the item, those that still wait for logits
        longest = self.llm.model_config.max_model_len
        for index, item in enumerate(items):
            try:
                if isinstance(item, RequestError):
                    raise item
                scorings[index] = Scoring(*item, self._bound_recipe, longest)
            except PRMError as error:
                results[index] = error
        while scorings:
            outputs = iter(
                self._encode([prompt for scoring in scorings.values() for prompt in scoring.prompts], progress)
            )
            for index, scoring in list(scorings.items()):
                its_outputs = list(islice(outputs, len(scoring.prompts)))
                try:
                    scoring.take(
                        [_logits(output) for output in its_outputs],
                        sum(output.num_cached_tokens or 0 for output in its_outputs),
                    )
                    if scoring.prompts:
                        continue
                    results[index] = scoring.result()
                except PRMError as error:  # of the next prompts, or of logits that are not finite
                    results[index] = error
                del scorings[index]
        return [results[index] for index in range(len(items))]

    def _encode(self, prompts: Sequence[Prompt], progress: bool) -> list[PoolingRequestOutput]:
        from vllm import PoolingParams

        return self.llm.encode(
            [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts],
            [
                PoolingParams(use_activation=False, extra_kwargs=positions_request(list(prompt.positions)))
                for prompt in prompts
            ],
            pooling_task="embed",
            lora_request=self._lora,
            use_tqdm=progress,
        )


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
