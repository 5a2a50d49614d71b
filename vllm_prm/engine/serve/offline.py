"""PRM: score solutions in this process, without a server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vllm_prm.engine.positions import KEY
from vllm_prm.engine.start.options import engine_options
from vllm_prm.errors import EngineError, PRMError, RecipeError, RequestError
from vllm_prm.prompts import Prompt, score_plan
from vllm_prm.recipes import Recipe, find_recipe, load_recipe, recipe_names
from vllm_prm.scorer import Item, OnError, Scorer, checked_items, settled
from vllm_prm.scores import StepScores

if TYPE_CHECKING:
    from vllm import LLM

# Solutions whose prompts are built before the engine gets them: enough to fill any batch, little to hold in memory.
_AT_ONCE = 4096


@dataclass
class _Work:
    """One solution on its way: its plan, the prompts that the plan waits for, and what they have cost so far."""

    index: int
    plan: Generator[list[Prompt], list[np.ndarray], np.ndarray]
    prompts: list[Prompt] = field(default_factory=list)
    tokens: int = 0
    cached: int = 0


class PRM(Scorer):
    """A process reward model on an engine of its own.

    model: a name or folder, as vLLM takes it. recipe: a Recipe, a name, a JSON file or inline JSON; None finds it by
    the model's name or its prm.json. lora: an adapter's folder, applied to every request. Everything else goes to
    vLLM's LLM. In a script, create it under `if __name__ == "__main__":`, because vLLM starts processes.

    Raises RecipeError if no recipe is known or the model does not fit it, UnsupportedError if the engine cannot
    serve a PRM as configured.
    """

    def __init__(
        self, model: str, recipe: Recipe | str | None = None, *, lora: str | None = None, **engine_args: Any
    ) -> None:
        found = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else find_recipe(model)
        if found is None:
            raise RecipeError(
                f"no recipe is known for {model!r}: name one, PRM(model, recipe=...), of {', '.join(recipe_names())}; "
                "or give a JSON file, or put a prm.json into the model's folder"
            )
        from vllm import LLM

        options = engine_options(found, engine_args)
        if lora is not None:
            options.setdefault("enable_lora", True)
        self._recipe = found
        self._lora = _lora_request(lora)
        self._llm: LLM | None = LLM(model, **options)
        self._tokenizer = self._llm.get_tokenizer()

    @property
    def recipe(self) -> Recipe:
        return self._recipe

    @property
    def llm(self) -> LLM:
        """vLLM's engine, for everything else it can do. Raises PRMError after close()."""
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
        longest = self.llm.model_config.max_model_len
        under_way: list[_Work] = []
        for index, item in enumerate(items):
            if isinstance(item, RequestError):
                results[index] = item
                continue
            plan = score_plan(*item, self._recipe, self._tokenizer, longest)
            self._advance(_Work(index, plan), None, under_way, results)
        while under_way:
            answers = iter(self._run([prompt for work in under_way for prompt in work.prompts], progress))
            ready, under_way = under_way, []
            for work in ready:
                logits = []
                for _ in work.prompts:
                    rows, tokens, cached = next(answers)
                    logits.append(rows)
                    work.tokens, work.cached = work.tokens + tokens, work.cached + cached
                self._advance(work, logits, under_way, results)
        return [results[index] for index in range(len(items))]

    def _advance(
        self,
        work: _Work,
        logits: list[np.ndarray] | None,
        under_way: list[_Work],
        results: dict[int, StepScores | PRMError],
    ) -> None:
        """Hand a plan its logits (None to begin): it asks for more prompts, or it is done, or it refuses."""
        try:
            try:
                work.prompts = next(work.plan) if logits is None else work.plan.send(logits)
                under_way.append(work)
            except StopIteration as done:
                results[work.index] = StepScores.from_logits(done.value, self._recipe, work.tokens, work.cached)
        except PRMError as error:  # of the plan, or of logits that are not finite
            results[work.index] = error

    def _run(self, prompts: list[Prompt], progress: bool) -> list[tuple[np.ndarray, int, int]]:
        """Per prompt: float32 logits [positions, scoring tokens], its tokens, and how many were cached."""
        from vllm import PoolingParams

        params = [
            PoolingParams(use_activation=False, extra_kwargs={KEY: {"positions": list(prompt.positions)}})
            for prompt in prompts
        ]
        outputs = self.llm.encode(
            [{"prompt_token_ids": list(prompt.token_ids)} for prompt in prompts],
            params,
            pooling_task="embed",
            lora_request=self._lora,
            use_tqdm=progress,
        )
        width = len(self._recipe.scoring_tokens)
        return [
            (
                output.outputs.data.numpy().reshape(len(prompt.positions), width),  # raises if a row is missing
                len(prompt.token_ids),
                output.num_cached_tokens or 0,
            )
            for prompt, output in zip(prompts, outputs, strict=True)
        ]


def _lora_request(path: str | None) -> Any:
    if path is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("prm", 1, path)
